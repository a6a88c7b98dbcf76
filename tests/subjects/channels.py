"""How the tests open each kind of channel."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.abc

import aipc
from aipc.abc import Channel
from aipc.testing import ChannelSubject

from .. import children
from .names import new_key, new_name
from .signals import CHANNEL_SIGNAL, drop_signals, queued_signals

_FRAMED = 16 * 1024 * 1024


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


def stream_pair(directory: Path) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        ours, theirs = aipc.channel_pair("stream")
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


def realtime_signal(directory: Path) -> ChannelSubject:
    url = f"signal:{CHANNEL_SIGNAL}"

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        with queued_signals(64):
            async with aipc.open_channel(url, pid=os.getpid()) as sender, aipc.open_channel(url) as receiver:
                yield sender, receiver
        drop_signals()

    return ChannelSubject(open_pair, limit=4, duplex=False, ends=False, hangs_up=False, empties=False, size=4)


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
    "stream-pair": stream_pair,
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
