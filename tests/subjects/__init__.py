"""How the tests open what they hold to the contracts."""

from __future__ import annotations

from .channels import CHANNELS as CHANNELS
from .channels import Addressed as Addressed
from .channels import fill as fill
from .counts import CANCELLATIONS as CANCELLATIONS
from .counts import EVERY_LOOP as EVERY_LOOP
from .counts import LONG as LONG
from .counts import times as times
from .locks import LOCKS as LOCKS
from .names import new_key as new_key
from .names import new_name as new_name
from .signals import BLOCKED_SIGNALS as BLOCKED_SIGNALS
from .signals import CHANNEL_SIGNAL as CHANNEL_SIGNAL
from .signals import alone_with_signals as alone_with_signals
from .signals import drop_signals as drop_signals
from .signals import queued_signals as queued_signals
