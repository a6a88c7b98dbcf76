"""What aipc's own tests use, for your transports and services, too.

`CHANNEL_CHECKS` and `LOCK_CHECKS` are what every Channel and Lock promises: each check is an async function of a
`ChannelSubject` or a `LockSubject`, which says how to open the thing and what it can do. `inject` cancels an operation at a
chosen await. `kernel_objects` lists what a test may have left behind. Nothing here needs a test runner.
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
