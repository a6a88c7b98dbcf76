"""Closing where this process may not remove the socket file any more: a server that bound it as root, and is somebody else by now."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import settle

pytestmark = pytest.mark.anyio

KINDS = {
    "unix": socket.SOCK_STREAM,
    "unix+seqpacket": socket.SOCK_SEQPACKET,
    "shm": socket.SOCK_STREAM,
    "unix+dgram": socket.SOCK_DGRAM,
}


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that other users may look into; pytest's own they may not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@contextmanager
def powerless(directory: Path) -> Iterator[None]:
    """This process may look into the directory, and not change it: root becomes somebody else, another user may do less."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    else:
        directory.chmod(0o500)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        else:
            directory.chmod(0o755)


def open_at(scheme: str, path: Path) -> aipc.Opening[aipc.Listener] | aipc.Opening[aipc.Channel]:
    return aipc.open_channel(f"{scheme}:?bind={path}") if scheme == "unix+dgram" else aipc.listen(f"{scheme}:{path}")


@pytest.mark.parametrize("scheme", KINDS)
async def test_the_socket_is_closed(scheme: str, directory: Path) -> None:
    """At once and without an error; its file is stale then, and the next one takes it over."""
    path = directory / "socket"
    opened = await open_at(scheme, path)
    descriptor = opened.extra(aipc.ChannelAttribute.descriptor)
    with powerless(directory):
        await opened.aclose()
        await opened.aclose()
    with pytest.raises(OSError):
        os.fstat(descriptor)
    with socket.socket(socket.AF_UNIX, KINDS[scheme]) as peer, pytest.raises(ConnectionRefusedError):
        peer.connect(str(path))
    async with open_at(scheme, path):
        pass
    assert not path.exists()


async def test_drain(directory: Path) -> None:
    """A graceful stop answers who is connected, and ends."""
    url = f"unix:{directory}/socket"

    async def echo(channel: aipc.Channel) -> None:
        await channel.send(await channel.receive())

    with anyio.fail_after(20):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, echo)
            await settle()
            async with aipc.open_channel(url) as client:
                with powerless(directory):
                    tasks.start_soon(listener.drain)
                    await client.send(b"last")
                    assert await client.receive() == b"last"
                    await settle()
                assert listener.extra(aipc.ChannelAttribute.descriptor) == -1
