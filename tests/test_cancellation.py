"""Cancellations injected into each operation of each mechanism, at every await: nothing lost, doubled or left held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc import ByteRangeLock, SysVSemaphoreSet, open_lock
from aipc.abc import Channel, Lock, Semaphore
from aipc.testing import CANCELLED, Moment, inject
from aipc.transports.shm.channel import RingChannel

from .subjects import CANCELLATIONS, CHANNELS, LOCKS, fill, new_name, times

pytestmark = pytest.mark.anyio

MOMENTS = (Moment.AWAIT, Moment.READINESS)
SIZES = {
    "unix": 30_000,
    "unix-fds": 30_000,
    "unix-parked": 30_000,
    "unix+seqpacket": 30_000,
    "unix+dgram": 30_000,
    "unix+dgram-to": 30_000,
    "stream-pair": 30_000,
    "seqpacket-pair": 30_000,
    "dgram-pair": 30_000,
    "pipe": 4_000,
    "fd": 4_000,
    "fifo": 4_000,
    "signal": 4,
    "exec": 4_000,
    "sysv-mq": 8_000,
    "posix-mq": 8_000,
    "shm-64-KiB": 20_000,
    "shm-4-KiB": 900,
    "tcp": 8_000,
    "tls": 8_000,
}  # bytes of a message of which a few fill the mechanism
LATE = ("tcp", "tls")  # what was received makes room only when the peer's acknowledgement comes
DEEPEST = 5  # awaits: spins, then the first parks


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    """A lost message fails the test, where it would wait for ever."""
    with anyio.fail_after(times(60, 600)):
        yield


def drain(channel: Channel) -> list[bytes]:
    got = []
    try:
        while True:
            got.append(channel.receive_nowait())
    except anyio.WouldBlock:
        return got


@pytest.mark.parametrize("mechanism", [*SIZES, "udp"])
async def test_receive(mechanism: str, place: Path) -> None:
    """A message made ready at any moment of a receive that is cancelled at any await is received once, now or later."""
    subject = CHANNELS[mechanism](place)
    async with patience(), subject.open_pair() as (sender, receiver):
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            message = subject.message(b"%x" % attempts)
            at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
            attempts += 1
            sent = False

            def suspended(number: int, parked: bool, ready_at: int = ready_at, message: bytes = message) -> None:
                nonlocal sent
                if (parked or number >= ready_at) and not sent:
                    sent = True
                    sender.send_nowait(message)

            outcome = await inject(receiver.receive(), at, moment, suspended)
            if outcome is CANCELLED:
                cancelled += 1
                if not sent:
                    sender.send_nowait(message)
                outcome = await receiver.receive()
            assert outcome == message
            assert drain(receiver) == []
        assert receiver.statistics().messages_received == sender.statistics().messages_sent == attempts


@pytest.mark.parametrize("operation", ["send", "send_many"])
@pytest.mark.parametrize("mechanism", [name for name in SIZES if name not in LATE])
async def test_send(mechanism: str, operation: str, place: Path) -> None:
    """A send that waits for room and is cancelled at any await sent its message wholly if it ended, and else not at all."""
    filler = bytes(SIZES[mechanism])
    subject = CHANNELS[mechanism](place)
    async with patience(), subject.open_pair() as (sender, receiver):
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            message = subject.message(b"%x" % attempts + filler)
            at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
            attempts += 1
            expected = [filler] * fill(sender, filler)
            received: list[bytes] = []

            def suspended(number: int, parked: bool, ready_at: int = ready_at, received: list[bytes] = received) -> None:
                if (parked or number >= ready_at) and not received:
                    received += drain(receiver)

            before = sender.statistics().messages_sent
            sending = sender.send(message) if operation == "send" else sender.send_many([message])
            outcome = await inject(sending, at, moment, suspended)
            if outcome is CANCELLED:
                cancelled += 1
            else:
                expected.append(message)
            assert received + drain(receiver) == expected
            assert sender.statistics().messages_sent - before == (outcome is not CANCELLED)


@pytest.mark.parametrize("operation", ["send", "send_many"])
@pytest.mark.parametrize("mechanism", LATE)
async def test_send_where_room_comes_late(mechanism: str, operation: str, place: Path) -> None:
    """As `test_send`; but the kernel may take a part of a message: then a cancelled one is sent, too, and counted as sent."""
    filler = bytes(SIZES[mechanism])
    async with patience(), CHANNELS[mechanism](place).open_pair() as (sender, receiver):
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            message = b"%d" % attempts + filler
            at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
            attempts += 1
            expected = [filler] * fill(sender, filler)
            received: list[bytes] = []

            def suspended(number: int, parked: bool, ready_at: int = ready_at, received: list[bytes] = received) -> None:
                if (parked or number >= ready_at) and not received:
                    received += drain(receiver)

            before = sender.statistics().messages_sent
            sending = sender.send(message) if operation == "send" else sender.send_many([message])
            outcome = await inject(sending, at, moment, suspended)
            sent = sender.statistics().messages_sent - before
            if outcome is CANCELLED:
                cancelled += 1
            else:
                assert sent == 1
            expected += [message] * sent
            while len(received) < len(expected):
                received.append(await receiver.receive())
            assert received == expected
        await sender.send(b"end")
        assert await receiver.receive() == b"end"


@pytest.mark.parametrize("operation", ["send", "send_many"])
@pytest.mark.parametrize("mechanism", ["unix", "pipe", "exec", "fifo", "shm-64-KiB", *LATE])
async def test_send_longer_than_the_kernel_takes(mechanism: str, operation: str, place: Path) -> None:
    """A cancelled frame of which a part had left is finished, none is torn, and what came after it is sent."""
    async with patience(), CHANNELS[mechanism](place).open_pair() as (sender, receiver):
        for attempt in range(times(28, 300)):
            first, second = b"1" * 300_000, b"2" * 500_000
            received: list[bytes] = []

            def suspended(number: int, parked: bool, received: list[bytes] = received) -> None:
                received += drain(receiver)

            sending = sender.send(first) if operation == "send" else sender.send_many([b"0", first, second])
            outcome = await inject(sending, attempt % 7, MOMENTS[attempt % 2], suspended)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send, b"end")
                while not received or received[-1] != b"end":
                    received.append(await receiver.receive())
            whole = [first] if operation == "send" else [b"0", first, second]
            sent = received[:-1]
            assert sent == (whole[: len(sent)] if outcome is CANCELLED else whole)
        assert receiver.statistics().messages_received == sender.statistics().messages_sent


async def lent(channel: RingChannel, message: bytes) -> None:
    async with channel.loan(len(message)) as view:
        view[:] = message


async def viewed(channel: RingChannel) -> bytes:
    async with channel.receive_view() as view:
        return bytes(view)


@pytest.mark.parametrize("mechanism", ["shm-64-KiB", "shm-4-KiB"])
async def test_loan(mechanism: str, place: Path) -> None:
    """A loan that waits for room and is cancelled at any await leaves the room free, and nothing sent."""
    filler = bytes(SIZES[mechanism])
    async with patience(), CHANNELS[mechanism](place).open_pair() as (sender, receiver):
        assert isinstance(sender, RingChannel)
        await sender.send(b"meet")
        assert await receiver.receive() == b"meet"
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            message = b"%d" % attempts + filler
            at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
            attempts += 1
            expected = [filler] * fill(sender, filler)
            received: list[bytes] = []

            def suspended(number: int, parked: bool, ready_at: int = ready_at, received: list[bytes] = received) -> None:
                if (parked or number >= ready_at) and not received:
                    received += drain(receiver)

            outcome = await inject(lent(sender, message), at, moment, suspended)
            if outcome is CANCELLED:
                cancelled += 1
            else:
                expected.append(message)
            assert received + drain(receiver) == expected


@pytest.mark.parametrize("mechanism", ["shm-64-KiB", "shm-4-KiB"])
async def test_receive_view(mechanism: str, place: Path) -> None:
    """A message made ready at any moment of a view that is cancelled at any await is seen once, now or later."""
    async with patience(), CHANNELS[mechanism](place).open_pair() as (sender, receiver):
        assert isinstance(receiver, RingChannel)
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            message = b"%d" % attempts
            at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
            attempts += 1
            sent = False

            def suspended(number: int, parked: bool, ready_at: int = ready_at, message: bytes = message) -> None:
                nonlocal sent
                if (parked or number >= ready_at) and not sent:
                    sent = True
                    sender.send_nowait(message)

            outcome = await inject(viewed(receiver), at, moment, suspended)
            if outcome is CANCELLED:
                cancelled += 1
                if not sent:
                    sender.send_nowait(message)
                outcome = await receiver.receive()
            assert outcome == message
            assert drain(receiver) == []


@pytest.mark.parametrize("mechanism", LOCKS)
async def test_acquire(mechanism: str, place: Path) -> None:
    """A lock released at any moment of an acquire that is cancelled at any await has one holder, or none."""
    async with patience(), LOCKS[mechanism](place).open_two() as (one, other):
        cancelled = attempts = 0
        one.acquire_nowait()
        while cancelled < CANCELLATIONS:
            at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
            attempts += 1
            released = False

            def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                nonlocal released
                if (parked or number >= ready_at) and not released:
                    released = True
                    one.release()

            outcome = await inject(other.acquire(), at, moment, suspended)
            if outcome is CANCELLED:
                cancelled += 1
                assert_free(other)
            else:
                other.release()
            if released:
                one.acquire_nowait()


async def test_operate(key: str) -> None:
    """Steps that become possible at any moment of an `operate` that is cancelled at any await were all done, or none was."""
    async with (
        patience(),
        SysVSemaphoreSet(key, exclusive=True, unlink=True, values=[1, 0, 0]) as other,
        SysVSemaphoreSet(key) as row,
    ):
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
            attempts += 1

            def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                if (parked or number >= ready_at) and row.values[1] == 0 == row.values[2]:
                    other.set_value(1, 2)

            row.set_values([1, 0, 0])
            outcome = await inject(row.operate([(0, -1), (1, -2), (2, 0), (2, 1)]), at, moment, suspended)
            if outcome is CANCELLED:
                cancelled += 1
                assert row.values in ([1, 0, 0], [1, 2, 0])
            else:
                assert row.values == [0, 0, 1]
            assert row._opened().wanted == []


async def test_wait_zero(key: str) -> None:
    """Whether it is cancelled or not, it changes nothing."""
    async with (
        patience(),
        SysVSemaphoreSet(key, exclusive=True, unlink=True, values=[1]) as row,
        open_lock(f"sysv-sem:{key}") as semaphore,
    ):
        assert isinstance(semaphore, Semaphore)
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
            attempts += 1

            def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                if (parked or number >= ready_at) and row.values == [1]:
                    row.set_value(0, 0)

            row.set_value(0, 1)
            outcome = await inject(semaphore.wait_zero(), at, moment, suspended)
            cancelled += outcome is CANCELLED
            assert outcome is CANCELLED or row.values == [0]


@pytest.mark.parametrize("mechanism", ["fcntl", "fcntl-process"])
async def test_upgrade(mechanism: str, place: Path) -> None:
    """A lock that is upgraded and cancelled at any await is still held, and shared."""
    url = LOCKS[mechanism](place).url
    async with patience(), open_lock(url, shared=True) as one, open_lock(url, shared=True) as other, one:
        assert isinstance(one, ByteRangeLock)
        cancelled = attempts = 0
        while cancelled < CANCELLATIONS:
            at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
            attempts += 1
            shares = True

            def suspended(number: int, parked: bool, ready_at: int = ready_at) -> None:
                nonlocal shares
                if (parked or number >= ready_at) and shares:
                    shares = False
                    other.release()

            other.acquire_nowait()
            outcome = await inject(one.upgrade(), at, moment, suspended)
            if outcome is CANCELLED:
                cancelled += 1
                if shares:
                    other.release()
                other.acquire_nowait()
                other.release()
                one.upgrade_nowait()  # it is held still
            with pytest.raises(anyio.WouldBlock):
                other.acquire_nowait()
            one.downgrade()


def assert_free(lock: Lock) -> None:
    """This object does not hold it."""
    with pytest.raises(RuntimeError):
        lock.release()


async def test_changed() -> None:
    """A value published at any moment of a `changed` that is cancelled at any await is given out once, now or by the next."""
    name = new_name()
    async with patience():
        with aipc.Snapshot.create(name, 16, unlink=True) as writer, aipc.Snapshot.open(name) as reader:
            cancelled = attempts = 0
            while cancelled < CANCELLATIONS:
                value = b"%d" % attempts
                at, ready_at, moment = attempts % DEEPEST, attempts // DEEPEST % DEEPEST, MOMENTS[attempts % 2]
                attempts += 1
                published = False

                def suspended(number: int, parked: bool, ready_at: int = ready_at, value: bytes = value) -> None:
                    nonlocal published
                    if (parked or number >= ready_at) and not published:
                        published = True
                        writer.publish(value)

                outcome = await inject(reader.changed(), at, moment, suspended)
                if outcome is CANCELLED:
                    cancelled += 1
                    if not published:
                        writer.publish(value)
                    outcome = await reader.changed()
                assert outcome == value
            assert reader.number == attempts
