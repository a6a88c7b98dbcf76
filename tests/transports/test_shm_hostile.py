"""A peer that writes what it likes into the ring, offers memory that can't be trusted, or dies: errors, and nothing else."""

from __future__ import annotations

import fcntl
import mmap
import os
import random
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.exceptions import AipcError, MessageTooLarge, ProtocolError, WrongObject
from aipc.testing.expect import settle
from aipc.wire import ring
from aipc.wire.ring_consumer import Consumer
from aipc.wire.ring_producer import Producer

from ..peers import python, said, tell

HELLO = b"aipcshm1"
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
PUBLISHED, CONSUMED, SLEEPS, ENDED = 0, 16, (32, 48), 64  # words of a direction's numbers
THEIRS = 256  # the client's direction, in words
SKIP, PART = 1 << 63, 1 << 62
ERRORS = (AipcError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.WouldBlock)


class Unordered:
    """No barriers."""

    fence: Callable[[], None] | None = None
    everywhere: Callable[[], None] | None = None


class Silence:
    """A doorbell to nobody."""

    def ring(self) -> bool:
        return True

    def hung_up(self) -> bool:
        return False

    def meet(self) -> None:
        raise BlockingIOError


class Numbers:
    """Numbers that a hostile peer would choose: near the limits of what is right, or anything."""

    def __init__(self, seed: int, capacity: int) -> None:
        self._random = random.Random(seed)
        near = [0, capacity // 4, capacity // 2, capacity, 2 * capacity, 1 << 31, 1 << 32, 1 << 48, 1 << 62, 1 << 63, 1 << 64]
        close = [number + by for number in near for by in (-16, -8, -1, 0, 1, 7, 8, 9, 16, 24)]
        flags = [number | flag for number in (0, 8, 9, 24, 100, capacity) for flag in (PART, SKIP, PART | SKIP)]
        self._chosen = [number for number in [*close, *flags, *range(0, 256, 8)] if 0 <= number < 1 << 64]

    def any(self) -> int:
        if self._random.random() < 0.9:
            return self._random.choice(self._chosen)
        return self._random.getrandbits(64)

    def moved(self, position: int) -> int:
        """A position near this one, most of the time."""
        return (position + self.any()) % (1 << 64)


@contextmanager
def memory(capacity: int) -> Iterator[tuple[mmap.mmap, memoryview]]:
    """Of two rings, that nobody else has."""
    with closing(mmap.mmap(-1, ring.memory_size(capacity))) as mapped, memoryview(mapped) as plain, plain.cast("Q") as words:
        yield mapped, words


def test_consumer_of_half_a_million_mutations() -> None:
    """No number makes the consumer read outside its ring, take more than its limit, or fail with anything but a named error."""
    capacity, limit = 4096, 3000
    numbers = Numbers(1, capacity)
    outcomes: dict[str, int] = {}
    with memory(capacity) as (mapped, words):
        theirs = bytes(range(256)) * 16
        mapped[4096 : 4096 + capacity] = theirs  # the other direction: never touched
        base = (4096 + capacity) // 8
        for _ in range(125_000):
            consumer = Consumer(1, Silence(), Unordered(), limit)
            consumer.attach(mapped, words)
            consumer.position = numbers.any() % (8 * capacity) & -8
            place = base + (consumer.position % capacity) // 8
            words[place] = numbers.any()
            words[base + (place - base + 1) % (capacity // 8)] = numbers.any()
            words[THEIRS + PUBLISHED] = numbers.moved(consumer.position)
            words[base] = numbers.any()
            for operation in (consumer.take, partial(consumer.take_many, 5), consumer.take):
                try:
                    taken = operation()
                    outcome = "taken"
                    assert sum(map(len, taken if isinstance(taken, list) else [taken])) <= limit + capacity
                except (BlockingIOError, ProtocolError, MessageTooLarge) as error:
                    outcome = type(error).__name__
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert mapped[4096 : 4096 + capacity] == theirs
        assert list(words[:THEIRS]) == [0] * THEIRS
    assert set(outcomes) == {"taken", "BlockingIOError", "ProtocolError", "MessageTooLarge"}
    assert min(outcomes.values()) > 500, outcomes


@pytest.mark.parametrize(
    "records",
    [
        [(PART | 24, 16)],  # no more to come than this
        [(PART | 24, 5)],
        [(PART | 8, 100)],  # nothing of it
        [(PART | 24, 40), (PART | 16, 23)],  # one more is missing, or one less
        [(PART | 24, 40), (PART | 16, 25)],
        [(PART | 24, 40), (23, 0)],
        [(PART | 24, 40), (25, 0)],
        [(PART | 24, 40), (0, 0)],
    ],
)
def test_parts_that_do_not_add_up(records: list[tuple[int, int]]) -> None:
    """Each part says how much of the message there is from it on, and that must be so; afterwards nothing more is believed."""
    with memory(4096) as (mapped, words):
        consumer = Consumer(0, Silence(), Unordered(), 3000)
        position = 0
        for header, rest in records:
            words[512 + position // 8], words[512 + position // 8 + 1] = header, rest
            position += ((header & ~PART) + 15) & -8
        words[PUBLISHED] = position
        consumer.attach(mapped, words)
        for _again in range(2):
            with pytest.raises(ProtocolError):
                consumer.take()


def test_producer_of_half_a_million_mutations() -> None:
    """No number makes the producer write outside its ring, or fail with anything but a named error."""
    capacity = 4096
    numbers = Numbers(2, capacity)
    outcomes: dict[str, int] = {}
    with memory(capacity) as (mapped, words):
        theirs = bytes(range(256)) * 16
        mapped[4096 + capacity :] = theirs
        small, large = b"x" * 9, memoryview(bytes(10_000))
        for _ in range(100_000):
            producer = Producer(0, Silence(), Unordered(), capacity)
            producer.attach(mapped, words)
            producer.position = numbers.any() % (8 * capacity) & -8
            words[SLEEPS[0]], words[SLEEPS[1]] = numbers.any(), numbers.any()
            steps = (partial(producer.put, small), partial(producer.put_part, large), partial(producer.reserve, 1000))
            for operation in steps:
                words[CONSUMED] = numbers.moved(producer.position - capacity)
                try:
                    operation()
                    outcome = "put"
                except (BlockingIOError, ProtocolError) as error:
                    outcome = type(error).__name__
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert mapped[4096 + capacity :] == theirs
        assert list(words[THEIRS + CONSUMED : 512]) == [0] * (THEIRS - CONSUMED)
    assert set(outcomes) == {"put", "BlockingIOError", "ProtocolError"}
    assert min(outcomes.values()) > 500, outcomes


@pytest.mark.parametrize("consumed", [0, 4088, 4100, 8200, 1 << 63])
def test_consumed_what_can_not_be(consumed: int) -> None:
    """More than was written, less than had to be read before, or half a word."""
    with memory(4096) as (mapped, words):
        producer = Producer(0, Silence(), Unordered(), 4096)
        producer.attach(mapped, words)
        producer.position = 8192
        words[CONSUMED] = consumed
        with pytest.raises(ProtocolError):
            producer.put(b"x")


class Raw:
    """A client made by hand."""

    def __init__(self, place: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(f"{place}/ring")

    def offer(self, fds: list[int], hello: bytes = HELLO) -> None:
        if fds:
            socket.send_fds(self.socket, [hello], fds)
        else:
            self.socket.send(hello)

    def close(self) -> None:
        self.socket.close()


@contextmanager
def memfd(size: int, seals: int = SEALS, flags: int = os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC) -> Iterator[int]:
    """Memory to offer."""
    fd = os.memfd_create("hostile", flags)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        yield fd
    finally:
        os.close(fd)


GOOD = ring.memory_size(4096)


@contextmanager
def untrusted(kind: str) -> Iterator[list[int]]:
    """Descriptors that are no memory for a ring."""
    if kind == "none":
        yield []
    elif kind == "two":
        with memfd(GOOD) as fd:
            yield [fd, fd]
    elif kind == "two hundred":
        with memfd(GOOD) as fd:
            yield [fd] * 200
    elif kind == "a pipe":
        reading, writing = os.pipe()
        yield [reading]
        os.close(reading)
        os.close(writing)
    elif kind == "a file":
        with open(__file__, "rb") as file:
            yield [file.fileno()]
    elif kind == "not for writing":
        with memfd(GOOD) as fd, open(f"/proc/self/fd/{fd}", "rb") as file:
            yield [file.fileno()]
    else:
        sizes = {"empty": 0, "short": GOOD - 1, "odd": GOOD + 4096, "tiny": 4096, "long": GOOD * 2}
        seals = {
            "unsealed": 0,
            "shrinkable": fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
            "growable": fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL,
            "sealable": fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW,
            "sealed against writing": SEALS | fcntl.F_SEAL_WRITE,
        }
        with memfd(sizes.get(kind, GOOD), seals.get(kind, SEALS)) as fd:
            yield [fd]


UNTRUSTED = [
    *("none", "two", "two hundred", "a pipe", "a file", "not for writing", "empty", "short", "odd", "tiny", "long"),
    *("unsealed", "shrinkable", "growable", "sealable", "sealed against writing"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", UNTRUSTED)
async def test_offers_that_are_refused(kind: str, place: Path) -> None:
    """Each use of the channel says so, and nothing of the offer stays open."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with closing(Raw(place)) as raw, untrusted(kind) as fds:
            raw.offer(fds)
            async with await listener.accept() as channel:
                with anyio.fail_after(10):
                    for operation in (channel.receive, channel.receive, partial(channel.send, b"x"), channel.send_eof):
                        with pytest.raises((ProtocolError, WrongObject, aipc.AccessDenied)):
                            await operation()


@pytest.mark.anyio
async def test_huge_pages_are_refused(place: Path) -> None:
    """Memory of huge pages can't be relied on to be there when it is touched."""
    with memfd(2 << 20, flags=os.MFD_ALLOW_SEALING | os.MFD_HUGETLB | os.MFD_CLOEXEC) as fd:
        async with aipc.listen(f"shm:{place}/ring") as listener:
            with closing(Raw(place)) as raw:
                raw.offer([fd])
                async with await listener.accept() as channel:
                    with anyio.fail_after(10), pytest.raises(WrongObject, match="huge"):
                        await channel.receive()


@pytest.mark.anyio
@pytest.mark.parametrize("hello", [b"aipc", b"aipcshm2", b"GET / HT", b"\0" * 8, HELLO[:7]])
async def test_wrong_words(hello: bytes, place: Path) -> None:
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with closing(Raw(place)) as raw, memfd(GOOD) as fd:
            raw.offer([fd], hello)
            async with await listener.accept() as channel:
                with anyio.fail_after(10):
                    for _ in range(2):
                        with pytest.raises(ProtocolError):
                            await channel.receive()
                    raw.offer([fd])  # too late
                    with pytest.raises(ProtocolError):
                        await channel.receive()


@pytest.mark.anyio
async def test_silence(place: Path) -> None:
    """Who says nothing is waited for, by all who want something of it; its end is an error for each."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        raw = Raw(place)
        failed = []

        async def fails(operation: Callable[[], object]) -> None:
            with pytest.raises(ProtocolError):
                await operation()  # type: ignore[misc]
            failed.append(operation)

        async with await listener.accept() as channel, anyio.create_task_group() as tasks:
            with anyio.fail_after(10):
                with pytest.raises(anyio.WouldBlock):
                    channel.receive_nowait()
                with pytest.raises(anyio.WouldBlock):
                    channel.send_nowait(b"x")
                for operation in (channel.receive, channel.receive_many, partial(channel.send, b"x"), channel.send_eof):
                    tasks.start_soon(fails, operation)
                await settle()
                assert failed == []
                raw.close()
                while len(failed) < 4:
                    await settle()


@pytest.mark.anyio
async def test_flood_of_rings(place: Path) -> None:
    """A doorbell that never stops keeps nobody from the loop, nor from the message that comes in the end."""
    async with aipc.listen(f"shm:{place}/ring") as listener:
        with closing(Raw(place)) as raw, memfd(GOOD) as fd, closing(mmap.mmap(fd, GOOD)) as mapped:
            raw.offer([fd])
            raw.socket.setblocking(False)
            got: list[bytes] = []

            async def receive() -> None:
                got.append(await channel.receive())

            async with await listener.accept() as channel, anyio.create_task_group() as tasks:
                with anyio.fail_after(30):
                    tasks.start_soon(receive)
                    for _ in range(200):
                        with suppress(BlockingIOError):
                            while True:
                                raw.socket.send(b"x" * 4096)
                        await settle()
                    with memoryview(mapped) as plain, plain.cast("Q") as words:
                        assert got == []
                        words[(4096 + 4096) // 8] = 5
                        mapped[8200:8205] = b"hello"
                        words[THEIRS + PUBLISHED] = 16
                    raw.socket.close()
                    while not got:
                        await settle()
                    with pytest.raises(anyio.EndOfStream):
                        await channel.receive()
    assert got == [b"hello"]


@pytest.mark.anyio
async def test_announced_too_large(place: Path) -> None:
    """A long message in parts is refused at its first one, before memory for it is taken."""
    ours, theirs = aipc.channel_pair("shm")
    async with ours, theirs, aipc.listen(f"shm:{place}/ring", max_message_size=1000) as listener:
        with closing(Raw(place)) as raw, memfd(GOOD) as fd, closing(mmap.mmap(fd, GOOD)) as mapped:
            raw.offer([fd])
            with memoryview(mapped) as plain, plain.cast("Q") as words:
                words[1024], words[1025] = PART | 16, 1001
                words[THEIRS + PUBLISHED] = 24
            async with await listener.accept() as channel:
                for _ in range(2):
                    with anyio.fail_after(10), pytest.raises(MessageTooLarge):
                        await channel.receive()


async def misuse(channel: Channel, raw: Raw, words: memoryview, numbers: Numbers) -> Iterable[str]:
    """Write anything into the ring, and use the channel meanwhile: only errors that it names; what came of each use."""
    outcomes = []
    for index in (THEIRS + PUBLISHED, CONSUMED, SLEEPS[0], THEIRS + SLEEPS[1], 1024, 1025):
        words[index] = numbers.any()
    if numbers.any() % 2:
        raw.socket.close()
    operations = (channel.receive, partial(channel.send, b"x"), channel.receive_many, partial(channel.send, bytes(5000)))
    for operation in operations:
        outcome = "waits"
        with anyio.move_on_after(0.001):
            try:
                await operation()
                outcome = "done"
            except ERRORS as error:
                outcome = type(error).__name__
        outcomes.append(outcome)
    return outcomes


@pytest.mark.anyio
async def test_a_thousand_hostile_clients(place: Path) -> None:
    numbers = Numbers(3, 4096)
    outcomes: set[str] = set()
    async with aipc.listen(f"shm:{place}/ring") as listener:
        for _ in range(1_000):
            with closing(Raw(place)) as raw, memfd(GOOD) as fd, closing(mmap.mmap(fd, GOOD)) as mapped:
                raw.offer([fd])
                with memoryview(mapped) as plain, plain.cast("Q") as words:
                    async with await listener.accept() as channel:
                        outcomes.update(await misuse(channel, raw, words, numbers))
                        with suppress(*ERRORS):
                            channel.receive_nowait()
    assert outcomes == {"done", "waits", "ProtocolError", "MessageTooLarge", "EndOfStream", "BrokenResourceError"}


VICTIMS = """
import asyncio, os, random, signal, sys
import aipc
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
async def send(seed):
    numbers = random.Random(seed)
    async with aipc.open_channel(f"shm:{sys.argv[1]}/ring", capacity=65536) as channel:
        while True:
            size = numbers.choice([0, 10, 1000, 100_000, 300_000])
            await channel.send(bytes([size % 251]) * size)
for seed in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        asyncio.run(send(int(seed)))
    print(pid, flush=True)
"""


def resident() -> int:
    """Bytes of this process's own memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


@pytest.mark.anyio
async def test_killed_at_any_moment(place: Path) -> None:
    """What a killed sender had sent comes whole; then the end, or an error if it died in the middle. Memory and descriptors
    stay flat.
    """
    numbers = random.Random(4)
    ends = {"EndOfStream": 0, "ProtocolError": 0}
    memory_after: list[int] = []
    open_after: list[int] = []
    with python(VICTIMS, str(place)) as factory:
        async with aipc.listen(f"shm:{place}/ring") as listener:
            for seed in range(40):
                tell(factory, str(seed))
                victim = int(said(factory))
                with anyio.fail_after(30):
                    async with await listener.accept() as channel:
                        expected = random.Random(seed)
                        last = numbers.randrange(12)
                        received = 0
                        try:
                            while True:
                                if received == last:
                                    os.kill(victim, signal.SIGKILL)
                                message = await channel.receive()
                                size = expected.choice([0, 10, 1000, 100_000, 300_000])
                                assert message == bytes([size % 251]) * size
                                received += 1
                        except (anyio.EndOfStream, ProtocolError) as end:
                            ends[type(end).__name__] += 1
                        with pytest.raises(anyio.BrokenResourceError):
                            await channel.send(b"to nobody")
                open_after.append(len(os.listdir("/proc/self/fd")))
                memory_after.append(resident())
    assert sum(ends.values()) == 40
    assert min(ends.values()) >= 1, ends
    assert max(open_after[20:]) <= max(open_after[:20])
    assert memory_after[-1] - memory_after[10] < 4 << 20
