"""How the tests open what they hold to the contracts."""

from __future__ import annotations

import itertools
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.abc

import aipc
from aipc.abc import Channel, Lock
from aipc.testing import ChannelSubject, LockSubject

from . import children

_keys = itertools.count(0x61690000 + os.getpid() % 0x8000 * 16)
_FRAMED = 16 * 1024 * 1024


def new_key() -> str:
    """A System V key that no other test uses."""
    return hex(next(_keys))


def new_name() -> str:
    """A name for a POSIX object that no other test uses."""
    return f"/aipc-test-{os.getpid()}-{next(_keys)}"


def unix(directory: Path, framing: str = "u32", fds: int = 0) -> ChannelSubject:
    url = f"unix:{directory}/socket?framing={framing}&fds={fds}"

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


def channel_pair(kind: str) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        ours, theirs = aipc.channel_pair(kind)
        async with ours, theirs:
            yield ours, theirs

    return ChannelSubject(open_pair, limit=_FRAMED)


def unix_seqpacket(directory: Path) -> ChannelSubject:
    url = f"unix+seqpacket:{directory}/socket"

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with aipc.listen(url) as listener, aipc.open_channel(url) as ours, await listener.accept() as theirs:
            yield ours, theirs

    return ChannelSubject(open_pair, limit=_packet_limit())


def unix_datagram(directory: Path) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with (
            aipc.open_channel("unix+dgram:", bind=f"{directory}/theirs") as theirs,
            aipc.open_channel(f"unix+dgram:{directory}/theirs") as ours,
        ):
            yield ours, theirs

    return ChannelSubject(open_pair, limit=_packet_limit(), ends=False)


class Addressed:
    """A channel that sends everything to one address."""

    def __init__(self, channel: Channel, to: object) -> None:
        self._channel = channel
        for name in ("send", "send_nowait", "send_many"):
            setattr(self, name, partial(getattr(channel, name), to=to))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def __repr__(self) -> str:
        return f"<Addressed {self._channel!r}>"


def unix_datagram_unconnected(directory: Path) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        path = f"{directory}/theirs"
        async with aipc.open_channel("unix+dgram:", bind=path) as theirs, aipc.open_channel("unix+dgram:") as ours:
            yield cast(Channel, Addressed(ours, path)), theirs

    return ChannelSubject(open_pair, limit=_packet_limit(), ends=False)


def packet_pair(kind: str) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        ours, theirs = aipc.channel_pair(kind)
        async with ours, theirs:
            yield ours, theirs

    return ChannelSubject(open_pair, limit=_packet_limit(), ends=kind == "seqpacket")


def _packet_limit() -> int:
    """What a new socket's buffer takes, less the kernel's 32 bytes."""
    return int(Path("/proc/sys/net/core/wmem_default").read_text()) - 32


def udp(host: str, limit: int) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with aipc.open_channel("udp:", bind=f"{host}:0") as theirs:
            port = theirs.extra(anyio.abc.SocketAttribute.local_port)
            async with aipc.open_channel(f"udp://{host}:{port}") as ours:
                yield ours, theirs

    return ChannelSubject(open_pair, limit=limit, ends=False, pushes_back=False)


def shm(directory: Path, capacity: int, limit: int = _FRAMED) -> ChannelSubject:
    url = f"shm:{directory}/ring"

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with (
            aipc.listen(url, capacity=capacity, max_message_size=limit) as listener,
            aipc.open_channel(url, capacity=capacity, max_message_size=limit) as ours,
            await listener.accept() as theirs,
        ):
            yield ours, theirs

    return ChannelSubject(open_pair, limit=limit)


def pipe(directory: Path) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        receiver, sender = aipc.pipe()
        async with receiver, sender:
            yield sender, receiver

    return ChannelSubject(open_pair, limit=_FRAMED, duplex=False)


def fifo(directory: Path, framing: str = "u32") -> ChannelSubject:
    url = f"fifo:{directory}/fifo?framing={framing}&create=1"

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with (
            aipc.open_channel(url, direction="receive", unlink=True) as receiver,
            aipc.open_channel(url, direction="send") as sender,
        ):
            yield sender, receiver

    return ChannelSubject(open_pair, limit=_FRAMED, duplex=False, reserved={"lines": b"\n"}.get(framing, b""))


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


def posix_queue(directory: Path) -> ChannelSubject:
    url = f"posix-mq:{new_name()}"

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


def file_lock(url: str) -> LockSubject:
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


def posix_semaphore(directory: Path, *, robust: bool) -> LockSubject:
    url = f"posix-sem:{new_name()}?robust={robust:d}"

    @asynccontextmanager
    async def open_two() -> AsyncIterator[tuple[Lock, Lock]]:
        async with (
            aipc.open_lock(url, exclusive=True, unlink=True),
            aipc.open_lock(url) as one,
            aipc.open_lock(url) as other,
        ):
            yield one, other

    return LockSubject(open_two, url, dies_free=robust, tells=robust)


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
    "unix-fds": lambda directory: unix(directory, fds=1),
    "unix-abstract": abstract,
    "unix+seqpacket": unix_seqpacket,
    "unix+dgram": unix_datagram,
    "unix+dgram-to": unix_datagram_unconnected,
    "stream-pair": lambda _: channel_pair("stream"),
    "shm": lambda directory: shm(directory, 1 << 22),
    "shm-4-KiB": lambda directory: shm(directory, 1 << 12, 1 << 14),
    "shm-64-KiB": lambda directory: shm(directory, 1 << 16, 1 << 20),
    "shm-64-MiB": lambda directory: shm(directory, 1 << 26, 1 << 28),
    "shm-pair": lambda _: channel_pair("shm"),
    "seqpacket-pair": lambda _: packet_pair("seqpacket"),
    "dgram-pair": lambda _: packet_pair("dgram"),
    "udp": lambda _: udp("127.0.0.1", 65_507),
    "udp-ipv6": lambda _: udp("[::1]", 65_527),
    "pipe": pipe,
    "fifo": fifo,
    "fifo-u64": lambda directory: fifo(directory, "u64"),
    "sysv-mq": sysv_queue,
    "posix-mq": posix_queue,
    "signal": realtime_signal,
    "exec": lambda directory: ChannelSubject(lambda: children.exec_pair(directory), limit=_FRAMED),
    "popen-w": lambda directory: ChannelSubject(lambda: children.popen_pair(directory, "w"), limit=_FRAMED, duplex=False),
    "popen-r": lambda directory: ChannelSubject(lambda: children.popen_pair(directory, "r"), limit=_FRAMED, duplex=False),
}
LOCKS: dict[str, Callable[[Path], LockSubject]] = {
    "flock": lambda directory: file_lock(f"flock:{directory}/lock"),
    "fcntl": lambda directory: file_lock(f"fcntl:{directory}/lock"),
    "fcntl-process": lambda directory: file_lock(f"fcntl:{directory}/lock?owner=process&start=5&length=10"),
    "sysv-sem": sysv_semaphore,
    "posix-sem": lambda directory: posix_semaphore(directory, robust=False),
    "posix-sem-robust": lambda directory: posix_semaphore(directory, robust=True),
}
