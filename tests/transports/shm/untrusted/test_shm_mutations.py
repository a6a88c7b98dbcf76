"""Any number in the ring's memory, and a producer or a consumer that reads it: errors, and nothing else."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import pytest

from aipc.exceptions import MessageTooLarge, ProtocolError
from aipc.wire import ring
from aipc.wire.ring_consumer import Consumer
from aipc.wire.ring_producer import Producer

from ....subjects import times
from .hostile import CONSUMED, PART, PUBLISHED, SLEEPS, THEIRS, Numbers


class Unordered:
    """No barriers."""

    fence: Callable[[], None] | None = None
    global_barrier: Callable[[], bool] | None = None


class Silence:
    """A doorbell to nobody."""

    gone = False

    def wake_peer(self) -> bool:
        return True

    def drain_doorbell(self) -> bool:
        return False

    def meet(self) -> None:
        raise BlockingIOError


@contextmanager
def memory(capacity: int) -> Iterator[tuple[mmap.mmap, memoryview]]:
    """Of two rings, that nobody else has."""
    with closing(mmap.mmap(-1, ring.memory_size(capacity))) as mapped, memoryview(mapped) as plain, plain.cast("Q") as words:
        yield mapped, words


def test_consumer_of_many_mutations() -> None:
    """No number makes the consumer read outside its ring, take more than its limit, or fail with anything but a named error."""
    capacity, limit = 4096, 3000
    numbers = Numbers(1, capacity)
    outcomes: dict[str, int] = {}
    with memory(capacity) as (mapped, words):
        theirs = bytes(range(256)) * 16
        mapped[4096 : 4096 + capacity] = theirs  # the other direction: never touched
        base = (4096 + capacity) // 8
        for _ in range(rounds := times(25_000, 125_000)):
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
    assert min(outcomes.values()) > rounds / 250, outcomes


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


@pytest.mark.costly
def test_producer_of_many_mutations() -> None:
    """No number makes the producer write outside its ring, or fail with anything but a named error."""
    capacity = 4096
    numbers = Numbers(2, capacity)
    outcomes: dict[str, int] = {}
    with memory(capacity) as (mapped, words):
        theirs = bytes(range(256)) * 16
        mapped[4096 + capacity :] = theirs
        small, large = b"x" * 9, memoryview(bytes(10_000))
        for _ in range(rounds := times(25_000, 100_000)):
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
    assert min(outcomes.values()) > rounds / 250, outcomes


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
