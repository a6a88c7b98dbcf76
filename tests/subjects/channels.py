"""How the tests open each kind of channel."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.abc
import trustme
from anyio.abc import SocketAttribute

import aipc
from aipc._opening.openers import CONNECTIONS, opening
from aipc.abc import Channel
from aipc.testing import ChannelSubject

from .. import children
from ..redis.peers.servers import shared_server
from .names import new_key, new_name
from .signals import CHANNEL_SIGNAL, drop_signals, queued_signals

_FRAMED = 16 * 1024 * 1024
_SMALL = "send_buffer=32768&receive_buffer=32768"  # without these the kernel would let them grow to megabytes


def unix(directory: Path, framing: str = "u32", fds: int = 0, spin: int = 1) -> ChannelSubject:
    url = f"unix:{directory}/socket?framing={framing}&fds={fds}&spin={spin}"

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


def inherited(directory: Path) -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        (their_reader, our_writer), (our_reader, their_writer) = os.pipe(), os.pipe()
        async with (
            aipc.open_channel(f"fd:{our_reader},{our_writer}") as ours,
            aipc.open_channel(f"fd:{their_reader},{their_writer}") as theirs,
        ):
            yield ours, theirs

    return ChannelSubject(open_pair, limit=_FRAMED)


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


def tcp(directory: Path, host: str = "127.0.0.1") -> ChannelSubject:
    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with aipc.listen(f"tcp://{host}:0?{_SMALL}") as listener:
            url = f"tcp://{host}:{listener.extra(SocketAttribute.local_port)}?{_SMALL}"
            async with aipc.open_channel(url) as ours, await listener.accept() as theirs:
                yield ours, theirs

    return ChannelSubject(open_pair, limit=_FRAMED, lag=0.25)


@cache
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


def jobs(directory: Path) -> ChannelSubject:
    url = f"jobs:{directory}/queue.jobs?create=1&max_messages=200"

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with aipc.open_channel(url, unlink=True) as ours, aipc.open_channel(url) as theirs:
            yield ours, theirs

    return ChannelSubject(open_pair, limit=_FRAMED, ends=False, hangs_up=False)


def redis(directory: Path) -> ChannelSubject:
    url = shared_server().url(new_name().strip("/"), max_messages=200)

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with aipc.open_channel(url) as ours, aipc.open_channel(url) as theirs:
            yield ours, theirs
        shared_server().command("FLUSHALL")

    return ChannelSubject(open_pair, limit=_FRAMED, ends=False, hangs_up=False)


def redis_connection(directory: Path) -> ChannelSubject:
    url = shared_server().url(new_name().strip("/"))

    @asynccontextmanager
    async def open_pair() -> AsyncIterator[tuple[Channel, Channel]]:
        async with aipc.listen(url) as listener, opening(CONNECTIONS, "", url, {}) as ours, await listener.accept() as theirs:
            yield ours, theirs
        shared_server().command("FLUSHALL")

    return ChannelSubject(open_pair, limit=_FRAMED)


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
    "unix-parked": lambda directory: unix(directory, spin=0),
    "unix-abstract": abstract,
    "unix+seqpacket": unix_seqpacket,
    "unix+dgram": unix_datagram,
    "unix+dgram-to": unix_datagram_unconnected,
    "stream-pair": lambda _: channel_pair("stream"),
    "shm": lambda directory: shm(directory, 1 << 22),
    "shm-4-KiB": lambda directory: shm(directory, 1 << 12, 1 << 14),
    "shm-64-KiB": lambda directory: shm(directory, 1 << 16, 1 << 20),
    "shm-16-MiB": lambda directory: shm(directory, 1 << 24, 1 << 26),
    "shm-pair": lambda _: channel_pair("shm"),
    "seqpacket-pair": lambda _: packet_pair("seqpacket"),
    "dgram-pair": lambda _: packet_pair("dgram"),
    "udp": lambda _: udp("127.0.0.1", 65_507),
    "udp-ipv6": lambda _: udp("[::1]", 65_527),
    "pipe": pipe,
    "fd": inherited,
    "fifo": fifo,
    "fifo-u64": lambda directory: fifo(directory, "u64"),
    "tcp": tcp,
    "tcp6": lambda directory: tcp(directory, "[::1]"),
    "tls": tls,
    "tls-1.2": lambda directory: tls(directory, ssl.TLSVersion.TLSv1_2),
    "sysv-mq": sysv_queue,
    "posix-mq": posix_queue,
    "signal": realtime_signal,
    "jobs": jobs,
    "redis": redis,
    "redis-connection": redis_connection,
    "exec": lambda directory: ChannelSubject(lambda: children.exec_pair(directory), limit=_FRAMED),
    "popen-w": lambda directory: ChannelSubject(lambda: children.popen_pair(directory, "w"), limit=_FRAMED, duplex=False),
    "popen-r": lambda directory: ChannelSubject(lambda: children.popen_pair(directory, "r"), limit=_FRAMED, duplex=False),
}
