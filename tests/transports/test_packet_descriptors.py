"""Descriptors beside messages (SCM_RIGHTS): passed, or closed; never leaked, never inheritable."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import in_child

from ..subjects import CANCELLATIONS

pytestmark = pytest.mark.anyio
KINDS = ["seqpacket", "dgram"]


def count() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def at_most(descriptors: int) -> Iterator[None]:
    """No descriptor above a number so low that only so many more can be opened."""
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    free = [number for number in range(max(used) + descriptors + 9) if number not in used or not _is_open(number)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[descriptors], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = aipc.channel_pair(request.param)
    yield ours, theirs
    ours.close()  # type: ignore[attr-defined]
    theirs.close()  # type: ignore[attr-defined]


async def test_what_is_passed_is_the_same_object(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    reading, writing = os.pipe()
    await ours.send(b"both", fds=[reading, writing])
    os.close(reading)
    os.close(writing)
    message = await theirs.receive_message()
    assert message.data == b"both"
    assert not message.truncated
    os.write(message.fds[1], b"through")
    assert os.read(message.fds[0], 99) == b"through"
    assert not any(os.get_inheritable(fd) for fd in message.fds)
    for fd in message.fds:
        os.close(fd)


async def test_without_data(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    ours.send_nowait(b"", fds=[0])
    message = await theirs.receive_message()
    assert message.data == b""
    os.close(*message.fds)
    ours.send_nowait(b"", fds=[0])
    assert await theirs.receive() == b""


@pytest.mark.parametrize("call", ["receive", "receive_nowait", "receive_many", "async for"])
async def test_nobody_takes_them(call: str, pair: tuple[Channel, Channel]) -> None:
    """The kernel closes them: the pipe's other end sees it."""
    ours, theirs = pair
    reading, writing = os.pipe()
    await ours.send(b"x", fds=[writing] * 10)
    os.close(writing)
    before = count()
    if call == "receive":
        await theirs.receive()
    elif call == "receive_nowait":
        theirs.receive_nowait()
    elif call == "receive_many":
        await theirs.receive_many()
    else:
        async for _ in theirs:
            break
    assert count() == before
    os.set_blocking(reading, False)
    assert os.read(reading, 1) == b""
    os.close(reading)


async def test_a_hundred_thousand(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    before = count()
    passed = 0
    with anyio.fail_after(60):
        while passed < 100_000:
            await ours.send(b"x", fds=[0] * 253)
            fds = (await theirs.receive_message()).fds
            assert len(fds) == 253
            assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in fds)
            passed += len(fds)
            for fd in fds:
                os.close(fd)
    assert count() == before


async def test_cancelled_receive_message(pair: tuple[Channel, Channel]) -> None:
    """Cancelled thousands of times: the descriptors come with the next call, each once, and none is left behind."""
    ours, theirs = pair
    cancelled = attempts = 0
    while cancelled < CANCELLATIONS:
        at, ready_at, moment = attempts % 5, attempts // 5 % 5, (Moment.AWAIT, Moment.READINESS)[attempts % 2]
        attempts += 1
        sent = False

        def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
            nonlocal sent
            if (parked or number >= ready_at) and not sent:
                sent = True
                ours.send_nowait(b"x", fds=[0, 0])

        outcome = await inject(theirs.receive_message(), at, moment, suspended)
        if outcome is CANCELLED:
            cancelled += 1
            if not sent:
                ours.send_nowait(b"x", fds=[0, 0])
            outcome = await theirs.receive_message()
        assert isinstance(outcome, aipc.Message)
        one, other = outcome.fds
        os.close(one)
        os.close(other)


async def test_too_many_for_a_message(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    with pytest.raises(aipc.LimitExceeded, match=r"254 descriptors.*at most 253"):
        await ours.send(b"x", fds=[0] * 254)
    with pytest.raises(aipc.LimitExceeded):
        ours.send_nowait(b"x", fds=[0] * 254)
    with pytest.raises(anyio.WouldBlock):
        theirs.receive_nowait()


@pytest.mark.parametrize(("fds", "error"), [([-1], aipc.InvalidMessage), ([9999], aipc.InvalidMessage), (["0"], TypeError)])
async def test_no_descriptors(fds: list[object], error: type[Exception], pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    with pytest.raises(error):
        await ours.send(b"x", fds=fds)
    with pytest.raises(anyio.WouldBlock):
        theirs.receive_nowait()


@pytest.mark.parametrize("free", [0, 3])
async def test_receiver_without_room(free: int, pair: tuple[Channel, Channel]) -> None:
    """EMFILE at the receiver: those that came are closed again, and the message says so. The next one is whole."""
    ours, theirs = pair
    await ours.send(b"first", fds=[0] * 10)
    await ours.send(b"second", fds=[0])
    before = count()
    with at_most(free):
        message = await theirs.receive_message()
    assert message == (b"first", None, None, message.sender, (), message.credentials, True)
    assert count() == before
    message = await theirs.receive_message()
    assert message.data == b"second"
    assert not message.truncated
    os.close(*message.fds)


async def test_closed_with_descriptors_under_way(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    reading, writing = os.pipe()
    await ours.send(b"x", fds=[writing])
    os.close(writing)
    await theirs.aclose()
    os.set_blocking(reading, False)
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_under_way(kind: str) -> None:
    """A user without privileges may have RLIMIT_NOFILE of them on their way (unix(7))."""

    def send_many() -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        ours, _theirs = aipc.channel_pair(kind)
        if os.getuid() == 0:
            os.setgroups([])
            os.setuid(61_234)
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        ours.send_nowait(b"x", fds=[0] * 90)
        ours.send_nowait(b"x", fds=[0] * 90)
        with pytest.raises(aipc.LimitExceeded, match="RLIMIT_NOFILE"):
            ours.send_nowait(b"x", fds=[0] * 90)

    in_child(send_many)
