"""Going to sleep on a ring: the flag that the peer sees, the barrier, the last look. Without a channel or a kernel."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from aipc.wire import ring
from aipc.wire.ring_consumer import Consumer
from aipc.wire.ring_producer import Producer

CAPACITY = 4096
PUBLISHED, CONSUMED, READER_SLEEPS, WRITER_SLEEPS, PRODUCER_REGISTERED, CONSUMER_REGISTERED = 0, 16, 32, 48, 80, 256 + 80
AWAKE, ONCE, ALWAYS = 0, 1, 2


class Barriers:
    """`arrives` is what the other processor had stored, and what a barrier makes visible here."""

    fence: Callable[[], None] | None = None

    def __init__(self, arrives: Callable[[], object] = lambda: None, *, refused: bool = False) -> None:
        self.global_barrier: Callable[[], bool] | None = self._global_barrier
        self._arrives = arrives
        self.refused = refused
        self.calls = 0

    def _global_barrier(self) -> bool:
        self.calls += 1
        if not self.refused:
            self._arrives()
        return not self.refused


class Doorbell:
    gone = False

    def wake_peer(self) -> bool:
        return True

    def drain_doorbell(self) -> bool:
        return False

    def meet(self) -> None:
        raise BlockingIOError


@pytest.fixture
def words() -> Iterator[memoryview]:
    size = ring.memory_size(CAPACITY)
    with closing(mmap.mmap(-1, size)) as mapped, memoryview(mapped) as plain, plain.cast("Q") as words:
        ring.prepare(words)
        yield words


def consumer(words: memoryview, barriers: Barriers) -> Consumer:
    """With nothing to read."""
    end = Consumer(0, Doorbell(), barriers, CAPACITY)
    end.attach(words.obj, words)
    with pytest.raises(BlockingIOError):
        end.take()
    return end


def producer(words: memoryview, barriers: Barriers) -> Producer:
    """With a full ring."""
    end = Producer(0, Doorbell(), barriers, CAPACITY)
    end.attach(words.obj, words)
    for _ in range(CAPACITY // 512):
        end.put(bytes(504))
    with pytest.raises(BlockingIOError):
        end.put(b"")
    return end


def published(words: memoryview) -> None:
    words[PUBLISHED] = 16


def consumed(words: memoryview) -> None:
    words[CONSUMED] = 2048


ENDS = [
    pytest.param(consumer, published, READER_SLEEPS, PRODUCER_REGISTERED, id="consumer"),
    pytest.param(producer, consumed, WRITER_SLEEPS, CONSUMER_REGISTERED, id="producer"),
]
Make = Callable[[memoryview, Barriers], ring.End]


@pytest.mark.parametrize(("make", "change", "flag", "registered"), ENDS)
def test_what_was_on_its_way_is_found(
    make: Make, change: Callable[[memoryview], None], flag: int, registered: int, words: memoryview
) -> None:
    """The peer stored a position and saw no flag yet: the barrier comes after the flag, and the last look after the barrier."""
    flags: list[int] = []

    def arrives() -> None:
        flags.append(words[flag])
        change(words)

    words[registered] = 1
    end = make(words, Barriers(arrives))
    assert end.sleep()
    assert flags == [ONCE]


@pytest.mark.parametrize(("make", "change", "flag", "registered"), ENDS)
def test_nothing_came(make: Make, change: Callable[[memoryview], None], flag: int, registered: int, words: memoryview) -> None:
    words[registered] = 1
    end = make(words, Barriers())
    assert not end.sleep()
    change(words)
    assert end.sleep()


@pytest.mark.parametrize(("make", "change", "flag", "registered"), ENDS)
def test_flags(make: Make, change: object, flag: int, registered: int, words: memoryview) -> None:
    """Only a peer that barriers reach is told that it need not ring, awake or asleep; the others ring each time."""
    end = make(words, Barriers())
    assert words[flag] == ALWAYS
    end.sleep()
    assert words[flag] == ALWAYS
    end.awake()
    assert words[flag] == ALWAYS
    words[registered] = 1
    end.sleep()
    assert words[flag] == ONCE
    end.awake()
    assert words[flag] == AWAKE
    words[registered] = 0
    end.awake()
    assert words[flag] == ALWAYS


@pytest.mark.parametrize(("make", "change", "flag", "registered"), ENDS)
def test_barrier_that_is_refused_since(make: Make, change: object, flag: int, registered: int, words: memoryview) -> None:
    """From then on the peer rings each time; the first time one looks again, as the peer may not have seen that yet."""
    words[registered] = 1
    barriers = Barriers()
    end = make(words, barriers)
    assert not end.sleep()
    barriers.refused = True
    end.awake()
    assert end.sleep()
    assert words[flag] == ALWAYS
    assert not end.sleep()
    assert words[flag] == ALWAYS
    end.awake()
    assert words[flag] == ALWAYS
    assert barriers.calls == 2
