"""SIGPIPE: writing to a pipe without a reader must be an error, not the end of the process (write(2), signal(7)).

Python ignores the signal. A process that has restored its default action would die: there each write is guarded.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

deadly = False
"""Whether SIGPIPE would end this process, when `look` last checked."""


def look() -> None:
    """Check the signal's action, before a channel's first write."""
    global deadly  # noqa: PLW0603 - one process has one disposition
    deadly = signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL


def guarded(write: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Call `write(*arguments)` with SIGPIPE blocked in this thread, and remove a SIGPIPE that it raised: a BrokenPipeError."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
    try:
        return write(*arguments)
    except BrokenPipeError:
        if signal.SIGPIPE not in before:
            signal.sigtimedwait([signal.SIGPIPE], 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
