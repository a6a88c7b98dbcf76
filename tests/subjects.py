"""How the tests open what they hold to the contracts."""

from __future__ import annotations

import functools
import itertools
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import trustme
from anyio.abc import SocketAttribute

import aipc
from aipc.abc import Channel, Lock
from aipc.testing import ChannelSubject, LockSubject

_keys = itertools.count(0x61690000 + os.getpid() % 0x8000 * 16)
_FRAMED = 16 * 1024 * 1024
_SMALL = "send_buffer=32768&receive_buffer=32768"  # without these the kernel would let them grow to megabytes


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


def tcp(directory: Path, host: str = "127.0.0.1") -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with aipc.listen(f"tcp://{host}:0?{_SMALL}") as listener:
            url = f"tcp://{host}:{listener.extra(SocketAttribute.local_port)}?{_SMALL}"
            async with aipc.open_channel(url) as ours, await listener.accept() as theirs:
                yield ours, theirs

    return ChannelSubject(open_pair, limit=_FRAMED, lag=0.25)


@functools.cache
def certified() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context and a client's that trusts it."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def tls(directory: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        server, client = certified()
        client.maximum_version = version
        async with aipc.listen(f"tls://127.0.0.1:0?{_SMALL}", ssl_context=server) as listener:
            url = f"tls://127.0.0.1:{listener.extra(SocketAttribute.local_port)}?{_SMALL}"
            async with anyio.create_task_group() as tasks:
                accepted: list[Channel] = []

                async def accept() -> None:
                    accepted.append(await listener.accept())
                    await accepted[0].handshake()

                tasks.start_soon(accept)
                ours = await aipc.open_channel(url, ssl_context=client)
            async with ours, accepted[0] as theirs:
                yield ours, theirs

    return ChannelSubject(open_pair, limit=_FRAMED, lag=0.25)


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
    "tcp": tcp,
    "tcp6": lambda directory: tcp(directory, "[::1]"),
    "tls": tls,
    "tls-1.2": lambda directory: tls(directory, ssl.TLSVersion.TLSv1_2),
}
LOCKS: dict[str, Callable[[Path], LockSubject]] = {"flock": flock, "sysv-sem": sysv_semaphore}
