"""How the tour's two processes connect: one entry a mechanism; a new mechanism needs nothing else."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import quote

import anyio
import anyio.to_thread
from anyio.abc import SocketAttribute

import aipc
from aipc.abc import Channel, ChannelAttribute

from .peer import Acknowledged


class Peer(Protocol):
    """Starts the second process with these arguments (`tour_peer`); it inherits the descriptors `inherit`."""

    def __call__(self, *arguments: str, inherit: Sequence[int] = ()) -> subprocess.Popen[bytes]: ...

    def command(self, *arguments: str) -> list[str]:
        """Return the command that would start it."""
        ...


@asynccontextmanager
async def _listening(url: str, peer: Peer) -> AsyncIterator[Channel]:
    async with aipc.listen(url) as listener:
        peer("channel", url)
        async with await listener.accept() as channel:
            yield channel


@asynccontextmanager
async def _tcp(host: str, peer: Peer) -> AsyncIterator[Channel]:
    async with aipc.listen(f"tcp://{host}:0") as listener:
        peer("channel", f"tcp://{host}:{listener.extra(SocketAttribute.local_port)}")
        async with await listener.accept() as channel:
            yield channel


@asynccontextmanager
async def _pair(directory: Path, peer: Peer) -> AsyncIterator[Channel]:
    ours, theirs = aipc.channel_pair("stream")
    async with ours:
        async with theirs:
            fd = theirs.extra(ChannelAttribute.descriptor)
            peer("channel", f"fd:{fd}", inherit=[fd])
        yield ours


@asynccontextmanager
async def _pipe(directory: Path, peer: Peer) -> AsyncIterator[tuple[Channel, Channel]]:
    their_receiver, our_sender = aipc.pipe()
    our_receiver, their_sender = aipc.pipe()
    async with our_sender, our_receiver:
        async with their_receiver, their_sender:
            fds = [end.extra(ChannelAttribute.descriptor) for end in (their_receiver, their_sender)]
            peer("channel", f"fd:{fds[0]},{fds[1]}", inherit=fds)
        yield our_sender, our_receiver


@asynccontextmanager
async def _child(directory: Path, peer: Peer) -> AsyncIterator[Channel]:
    command = quote(shlex.join(peer.command("channel", "fd:0,1")))
    async with aipc.open_channel(f"exec:{command}") as channel:
        yield channel


@asynccontextmanager
async def _fifo(directory: Path, peer: Peer) -> AsyncIterator[tuple[Channel, Channel]]:
    there, back = (f"fifo:{directory}/{name}" for name in ("there", "back"))
    async with aipc.open_channel(back, exclusive=True, unlink=True) as receives:
        os.mkfifo(f"{directory}/there")
        peer("channel", f"{back}?direction=send", there)
        async with aipc.open_channel(there, direction="send", unlink=True) as sends:
            yield sends, receives


@asynccontextmanager
async def _unix_datagrams(directory: Path, peer: Peer) -> AsyncIterator[tuple[Channel, Channel]]:
    async with aipc.open_channel("unix+dgram:", bind=f"{directory}/here") as receives:
        process = peer("greet", f"unix+dgram:{directory}/here", f"unix+dgram:?bind={directory}/there")
        await receives.receive()
        async with aipc.open_channel(f"unix+dgram:{directory}/there") as sends:
            yield sends, receives
        await anyio.to_thread.run_sync(process.wait, 5)  # its file goes with it


@asynccontextmanager
async def _udp(_: Path, peer: Peer) -> AsyncIterator[Acknowledged]:
    async with aipc.open_channel("udp:", bind="127.0.0.1:0") as datagrams:
        peer("acknowledge", f"udp://127.0.0.1:{datagrams.extra(SocketAttribute.local_port)}")
        greeting = await datagrams.receive_message()
        yield Acknowledged(datagrams, to=greeting.sender)


@asynccontextmanager
async def _tls(directory: Path, peer: Peer) -> AsyncIterator[Channel]:
    with TemporaryDirectory() as place:
        certificate, key = f"{place}/certificate.pem", f"{place}/key.pem"
        request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=tour"
        files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
        await anyio.run_process([*shlex.split(request), *files])
        async with aipc.listen("tls://127.0.0.1:0", certfile=certificate, keyfile=key) as listener:
            peer("channel", f"tls://127.0.0.1:{listener.extra(SocketAttribute.local_port)}?cafile={certificate}")
            async with await listener.accept() as channel:
                yield channel


@asynccontextmanager
async def _sysv_queue(directory: Path, peer: Peer) -> AsyncIterator[tuple[Channel, Channel]]:
    there, back = (f"sysv-mq:{directory}?project={project}" for project in (1, 2))
    async with (
        aipc.open_channel(there, exclusive=True, unlink=True) as sends,
        aipc.open_channel(back, exclusive=True, unlink=True) as receives,
    ):
        peer("channel", back, there)
        yield sends, receives


@asynccontextmanager
async def _posix_queue(directory: Path, peer: Peer) -> AsyncIterator[tuple[Channel, Channel]]:
    there, back = (f"posix-mq:/{directory.name}-{way}" for way in ("there", "back"))
    async with (
        aipc.open_channel(there, exclusive=True, unlink=True) as sends,
        aipc.open_channel(back, exclusive=True, unlink=True) as receives,
    ):
        peer("channel", back, there)
        yield sends, receives


CHANNELS: dict[str, Callable[[Path, Peer], AbstractAsyncContextManager[Any]]] = {
    "unix": lambda directory, peer: _listening(f"unix:{directory}/tour", peer),
    "unix (abstract)": lambda _, peer: _listening(f"unix:@aipc-tour-{os.getpid()}", peer),
    "unix+seqpacket": lambda directory, peer: _listening(f"unix+seqpacket:{directory}/tour", peer),
    "unix+dgram": _unix_datagrams,
    "udp (acknowledged)": _udp,
    "shm": lambda directory, peer: _listening(f"shm:{directory}/tour-ring", peer),
    "socket pair": _pair,
    "pipe": _pipe,
    "exec": _child,
    "fifo": _fifo,
    "sysv-mq": _sysv_queue,
    "posix-mq": _posix_queue,
    "tcp": lambda _, peer: _tcp("127.0.0.1", peer),
}
if shutil.which("openssl"):  # which makes the certificate
    CHANNELS["tls"] = _tls
LOCKS: dict[str, Callable[[Path], tuple[str, dict[str, Any]]]] = {
    "flock": lambda directory: (f"flock:{directory}/lock", {}),
    "fcntl": lambda directory: (f"fcntl:{directory}/lock", {}),
    "sysv-sem": lambda directory: (f"sysv-sem:{directory}?project=3", {"exclusive": True, "unlink": True}),
    "posix-sem": lambda directory: (f"posix-sem:/{directory.name}?robust=1", {"exclusive": True, "unlink": True}),
}
