"""The signals that tests receive from signalfds, blocked all the time."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

CHANNEL_SIGNAL = signal.SIGRTMIN + 3
BLOCKED_SIGNALS = frozenset({CHANNEL_SIGNAL, signal.SIGRTMIN + 4, signal.SIGRTMIN + 5, signal.SIGUSR2})
"""What is received from signalfds here. tests/conftest.py blocks them before any thread starts, as a program should."""


def drop_signals() -> None:
    """They are blocked all the time, so what a test left unread is still there."""
    while signal.sigtimedwait(BLOCKED_SIGNALS, 0):
        pass


_FIRST_USER = 1_000_000_000


@contextmanager
def alone_with_signals() -> Iterator[None]:
    """No other test that queues signals runs meanwhile, in another run of the tests neither.

    RLIMIT_SIGPENDING counts those that are queued for all processes of a user (getrlimit(2)).
    """
    with open(f"{tempfile.gettempdir()}/aipc-tests-signals-{os.getuid()}", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


@contextmanager
def queued_signals(most: int) -> Iterator[None]:
    """Let the kernel queue only so many signals for this process.

    RLIMIT_SIGPENDING counts those of all processes with the same real user. So root takes a user of its own meanwhile: each
    SIGCHLD that waits for any other process of root's would count, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    user = os.getuid()
    if not os.geteuid():
        os.setresuid(_FIRST_USER + os.getpid(), -1, -1)
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (soft, hard))
        os.setresuid(user, -1, -1)
