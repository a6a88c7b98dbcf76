"""Descriptors beside calls and answers, on Unix sockets."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

import aipc
from aipc import rpc
from aipc.services.rpc.wires.msgpack_rpc import MessagePackWire

from .calling import Service, calling

pytestmark = pytest.mark.anyio

MECHANISMS = ("unix", "unix+seqpacket")


def service_of_files(directory: Path) -> Service:
    service = Service()

    @service.router.method
    async def read() -> bytes:
        (fd,) = rpc.current_caller().fds
        assert rpc.current_caller().fds == (fd,)
        with os.fdopen(fd, "rb") as file:
            return file.read()

    @service.router.method
    async def ignore() -> None: ...

    @service.router.method
    async def open_file(name: str) -> str:
        rpc.current_caller().send_fds([os.open(directory / name, os.O_RDONLY)])
        return name

    return service


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_with_calls_and_answers(mechanism: str, place: Path) -> None:
    (place / "file").write_bytes(b"content")
    async with calling(service_of_files(place), "msgpack", mechanism, place) as client:
        for _ in range(3):
            with open(place / "file", "rb") as file:
                assert await client.call("read", fds=[file.fileno()]) == b"content"
                await client.call("ignore", fds=[file.fileno()])
            name, (fd,) = await client.call_with_fds("open_file", "file")
            with os.fdopen(fd, "rb") as received:
                assert (name, received.read()) == ("file", b"content")
            assert await client.call("open_file", "file") == "file"  # what nobody takes is closed
        with pytest.raises(aipc.InvalidMessage):
            await client.call("read", fds=[1_000_000])
        assert await client.call("add", 1, 2) == 3


async def test_other_mechanisms_have_none(place: Path) -> None:
    (place / "file").write_bytes(b"content")
    async with calling(service_of_files(place), "msgpack", "tcp", place) as client:
        with pytest.raises(aipc.UnsupportedOperation):
            await client.call("read", fds=[0])
        with pytest.raises(rpc.RemoteError):
            await client.call("open_file", "file")
        assert await client.call("add", 1, 2) == 3


async def test_what_comes_with_other_messages_is_closed() -> None:
    wire = MessagePackWire()
    ours, theirs = aipc.channel_pair()
    async with ours, anyio.create_task_group() as tasks:
        tasks.start_soon(rpc.serve_channel, theirs, Service().router)
        await ours.send(wire.notification("$/descriptors", ()))
        await ours.receive()
        before = len(os.listdir("/proc/self/fd"))
        for message in (wire.notification("nothing", ()), wire.answer(5, None), wire.notification("$/credit", (1, 1))):
            await ours.send(message, fds=[0, 1, 2])
        await ours.send(wire.request(1, "add", (1, 2)), fds=[0])
        (answer,) = wire.feed(await ours.receive())
        assert answer.id == 1
        await anyio.wait_all_tasks_blocked()
        assert len(os.listdir("/proc/self/fd")) == before
        tasks.cancel_scope.cancel()
