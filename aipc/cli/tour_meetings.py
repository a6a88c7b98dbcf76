"""How the tour's two processes meet: one row a mechanism, and nothing else to add for a new one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from anyio.abc import SocketAttribute

import aipc
from aipc.abc import Channel, ChannelAttribute

Peer = Callable[..., subprocess.Popen[bytes]]
"""Starts the second process with these arguments (`tour_peer`); `inherit` are descriptors that it is to have."""


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
async def _sysv_queue(directory: Path, peer: Peer) -> AsyncIterator[tuple[Channel, Channel]]:
    there, back = (f"sysv-mq:{directory}?project={project}" for project in (1, 2))
    async with (
        aipc.open_channel(there, exclusive=True, unlink=True) as sends,
        aipc.open_channel(back, exclusive=True, unlink=True) as receives,
    ):
        peer("channel", back, there)
        yield sends, receives


CHANNELS: dict[str, Callable[[Path, Peer], AbstractAsyncContextManager[Any]]] = {
    "unix": lambda directory, peer: _listening(f"unix:{directory}/tour", peer),
    "unix (abstract)": lambda _, peer: _listening(f"unix:@aipc-tour-{os.getpid()}", peer),
    "socket pair": _pair,
    "pipe": _pipe,
    "sysv-mq": _sysv_queue,
    "tcp": lambda _, peer: _tcp("127.0.0.1", peer),
}
LOCKS: dict[str, Callable[[Path], tuple[str, dict[str, Any]]]] = {
    "flock": lambda directory: (f"flock:{directory}/lock", {}),
    "sysv-sem": lambda directory: (f"sysv-sem:{directory}?project=3", {"exclusive": True, "unlink": True}),
}
