"""A doorbell that the kernel refuses to ring, as it may without memory: nothing is lost or doubled, and nobody sleeps for ever."""

from __future__ import annotations

import errno
import threading
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

from aipc import RingChannel
from aipc._io.loop import backend
from aipc.abc import ChannelAttribute
from aipc.testing.expect import settle
from aipc.transports.shm import handle as shm_handle
from aipc.transports.shm.channel import pair

from ...conftest import LOOPS
from ...seccomp import judged
from ...subjects import fill

Scenario = Callable[[RingChannel, RingChannel], Awaitable[None]]


def refusing(times: int, code: int, ours: RingChannel) -> Callable[[str, int], int]:
    """Refuses so many rings of this channel."""
    refused = 0
    doorbell = ours.extra(ChannelAttribute.descriptor)

    def decide(_: str, descriptor: int) -> int:
        nonlocal refused
        refused += descriptor == doorbell
        return code if descriptor == doorbell and refused <= times else 0

    return decide


def refused(times: int, code: int, loop: str, scenario: Scenario) -> None:
    """Run it with a pair of which the first one's rings are refused."""
    ours, theirs = pair(4096)

    async def patient() -> None:
        with anyio.fail_after(20):
            await scenario(ours, theirs)

    try:
        judged(("sendto",), refusing(times, code, ours), partial(backend.run, loop, patient))
    finally:
        ours.close()
        theirs.close()


async def send_to_a_sleeper(ours: RingChannel, theirs: RingChannel) -> None:
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await theirs.receive())

    for message in (b"one", b"two", b"three"):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await settle()
            await ours.send(message)
    with pytest.raises(anyio.WouldBlock):
        theirs.receive_nowait()
    assert got == [b"one", b"two", b"three"]
    assert ours.statistics().messages_sent == 3


async def make_room_for_a_sleeper(ours: RingChannel, theirs: RingChannel) -> None:
    filled = fill(theirs, bytes(500))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(theirs.send, b"last")
        await settle()
        assert [ours.receive_nowait() for _ in range(filled)] == [bytes(500)] * filled
    assert ours.receive_nowait() == b"last"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM])
@pytest.mark.parametrize("scenario", [send_to_a_sleeper, make_room_for_a_sleeper])
def test_refused_for_a_while(scenario: Scenario, code: int, loop: str) -> None:
    """What was done stays done, once; the sleeper is woken as soon as the kernel lets us."""
    refused(4, code, loop, scenario)


async def send_each(channel: RingChannel, messages: list[bytes]) -> None:
    for message in messages:
        await channel.send(message)


async def give_up(ours: RingChannel, theirs: RingChannel) -> None:
    async def end() -> None:
        assert await theirs.receive() == b"the last"
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        await settle()
        await ours.send(b"the last")
    with pytest.raises(anyio.BrokenResourceError, match="shm pair"):
        await send_each(ours, [b"too late"] * 200)  # it notices when it looks, after 128 at most
    with pytest.raises(anyio.EndOfStream):
        await ours.receive()


@pytest.mark.parametrize("loop", LOOPS)
def test_refused_for_ever(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sleeper gets what was sent, then the end: hanging up needs no memory."""
    monkeypatch.setattr(shm_handle, "_PAUSES", [1e-3] * 5)
    refused(1 << 30, errno.EPERM, loop, give_up)


@pytest.mark.parametrize("loop", LOOPS)
def test_refused_where_no_loop_runs(loop: str) -> None:
    """The next message wakes the sleeper."""
    ours, theirs = pair(4096)
    got: list[bytes] = []
    parked = threading.Event()

    async def receive() -> None:
        async with anyio.create_task_group() as tasks:

            async def both() -> None:
                with anyio.fail_after(20):
                    got.extend([await theirs.receive(), await theirs.receive()])

            tasks.start_soon(both)
            await settle()
            parked.set()

    def send() -> None:
        parked.wait()
        ours.send_nowait(b"refused")
        ours.send_nowait(b"heard")

    receiving = threading.Thread(target=backend.run, args=(loop, receive))
    receiving.start()
    try:
        judged(("sendto",), refusing(1, errno.ENOBUFS, ours), send)
        receiving.join()
    finally:
        ours.close()
        theirs.close()
    assert got == [b"refused", b"heard"]
