"""How the tests open what they hold to the contracts."""

from __future__ import annotations

import itertools
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio

import aipc
from aipc.abc import Channel, Lock
from aipc.testing import ChannelSubject, LockSubject

_keys = itertools.count(0x61690000 + os.getpid() % 0x8000 * 16)
_FRAMED = 16 * 1024 * 1024


def new_key() -> str:
    """A System V key that no other test uses."""
    return hex(next(_keys))


def unix(directory: Path, framing: str = "u32") -> ChannelSubject:
    url = f"unix:{directory}/socket?framing={framing}"

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with aipc.listen(url) as listener, aipc.open_channel(url) as ours, await listener.accept() as theirs:
            yield ours, theirs

    return ChannelSubject(open_pair, limit=_FRAMED, reserved={"null": b"\0", "lines": b"\n"}.get(framing, b""))


def abstract(directory: Path) -> ChannelSubject:
    url = f"unix:@aipc-test-{os.getpid()}"

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with aipc.listen(url) as listener, aipc.open_channel(url) as ours, await listener.accept() as theirs:
            yield ours, theirs

    return ChannelSubject(open_pair, limit=_FRAMED)


def stream_pair(directory: Path) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        ours, theirs = aipc.channel_pair("stream")
        async with ours, theirs:
            yield ours, theirs

    return ChannelSubject(open_pair, limit=_FRAMED)


def pipe(directory: Path) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        receiver, sender = aipc.pipe()
        async with receiver, sender:
            yield sender, receiver

    return ChannelSubject(open_pair, limit=_FRAMED, duplex=False)


def sysv_queue(directory: Path) -> ChannelSubject:
    url = f"sysv-mq:{new_key()}"

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with (
            aipc.open_channel(url, exclusive=True, unlink=True),
            aipc.open_channel(url) as ours,
            aipc.open_channel(url) as theirs,
        ):
            yield ours, theirs

    return ChannelSubject(open_pair, limit=8192, ends=False, hangs_up=False)


CHANNEL_SIGNAL = signal.SIGRTMIN + 3
BLOCKED_SIGNALS = frozenset({CHANNEL_SIGNAL, signal.SIGRTMIN + 4, signal.SIGRTMIN + 5, signal.SIGUSR2})
"""What is received from signalfds here. tests/conftest.py blocks them before any thread starts, as a program should."""


def drop_signals() -> None:
    """They are blocked all the time, so what a test left unread is still there."""
    while signal.sigtimedwait(BLOCKED_SIGNALS, 0):
        pass


@contextmanager
def queued_signals(most: int) -> Iterator[None]:
    """Let the kernel queue only so many signals for this process's user, as far as they are for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (soft, hard))


def realtime_signal(directory: Path) -> ChannelSubject:
    url = f"signal:{CHANNEL_SIGNAL}"

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        with queued_signals(64):
            async with aipc.open_channel(url, pid=os.getpid()) as sender, aipc.open_channel(url) as receiver:
                yield sender, receiver
        drop_signals()

    return ChannelSubject(open_pair, limit=4, duplex=False, ends=False, hangs_up=False, empties=False, size=4)


def flock(directory: Path) -> LockSubject:
    url = f"flock:{directory}/lock"

    @asynccontextmanager
    async def open_two() -> AsyncIterator[tuple[Lock, Lock]]:
        async with aipc.open_lock(url) as one, aipc.open_lock(url) as other:
            yield one, other

    return LockSubject(open_two, url)


def sysv_semaphore(directory: Path) -> LockSubject:
    url = f"sysv-sem:{new_key()}"

    @asynccontextmanager
    async def open_two() -> AsyncIterator[tuple[Lock, Lock]]:
        async with (
            aipc.open_lock(url, exclusive=True, unlink=True),
            aipc.open_lock(url) as one,
            aipc.open_lock(url) as other,
        ):
            yield one, other

    return LockSubject(open_two, url)


def fill(channel: Channel, message: bytes) -> int:
    """How many messages fit."""
    count = 0
    try:
        while True:
            channel.send_nowait(message)
            count += 1
    except anyio.WouldBlock:
        return count


CHANNELS: dict[str, Callable[[Path], ChannelSubject]] = {
    "unix": unix,
    "unix-u32le": lambda directory: unix(directory, "u32le"),
    "unix-u64": lambda directory: unix(directory, "u64"),
    "unix-abstract": abstract,
    "stream-pair": stream_pair,
    "pipe": pipe,
    "sysv-mq": sysv_queue,
    "signal": realtime_signal,
}
LOCKS: dict[str, Callable[[Path], LockSubject]] = {"flock": flock, "sysv-sem": sysv_semaphore}
