"""The tools of aipc's own tests, for your transports and services, too.

`CHANNEL_CHECKS` and `LOCK_CHECKS` check the promises of every Channel and Lock: each check is an async function of a
`ChannelSubject` or a `LockSubject`, which knows how to open the object and what it can do. `inject` cancels an operation at a
chosen await. `kernel_objects` lists the objects that a test may have left behind. Nothing here needs a test runner.
"""

from aipc._io.loop.injection import CANCELLED as CANCELLED
from aipc._io.loop.injection import Moment as Moment
from aipc._io.loop.injection import inject as inject

from .channel_subject import ChannelSubject as ChannelSubject
from .channels import CHANNEL_CHECKS as CHANNEL_CHECKS
from .leaks import Leaked as Leaked
from .leaks import kernel_objects as kernel_objects
from .leaks import nothing_left as nothing_left
from .locks import LOCK_CHECKS as LOCK_CHECKS
from .locks import LockSubject as LockSubject
