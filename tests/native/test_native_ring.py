"""The ends of a ring in C and in Python: whatever stands in the memory, the same messages, the same errors, the same memory."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipc.exceptions import MessageTooLarge, ProtocolError
from aipc.wire import ring
from aipc.wire.ring_consumer import Consumer
from aipc.wire.ring_producer import Producer

from . import needs_native

pytestmark = needs_native
CAPACITY, LIMIT, PAGE = 4096, 1000, 4096
PUBLISHED, CONSUMED, READER_SLEEPS, WRITER_SLEEPS = 0, 16, 32, 48  # words of direction 0
ERRORS = (OSError, ProtocolError, MessageTooLarge)


class Unordered:
    fence: Callable[[], None] | None = None
    global_barrier: Callable[[], bool] | None = None


class Bell:
    """Counts how often the peer was woken."""

    gone = False

    def __init__(self) -> None:
        self.wakes = 0

    def wake_peer(self) -> bool:
        self.wakes += 1
        return True

    def drain_doorbell(self) -> bool:
        return False

    def meet(self) -> None:
        raise BlockingIOError


class PythonConsumer(Consumer):
    take, take_more, watch = Consumer._take, Consumer._take_more, Consumer._watch


class PythonProducer(Producer):
    put, put_many = Producer._put, Producer._put_many


@contextmanager
def memory() -> Iterator[tuple[mmap.mmap, Any]]:
    mapped = mmap.mmap(-1, ring.memory_size(CAPACITY))
    words = memoryview(mapped).cast("Q")
    yield mapped, words
    words.release()
    mapped.close()  # BufferError if C still held it


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ERRORS as error:
        return repr(error)


numbers = st.integers(0, 64) | st.integers(0, 2 * CAPACITY) | st.integers(0, (1 << 64) - 1) | st.sampled_from(
    [ring.SKIP, ring.PART, ring.PART | 24, ring.LENGTH, LIMIT, LIMIT + 1, (1 << 64) - 1, (1 << 64) - 15, (1 << 63) - 1, 1 << 63]
)  # fmt: skip
calls = st.lists(st.sampled_from(["take", "take_many", "take_3", "watch"]), min_size=1, max_size=6)


@given(
    position=st.integers(0, 1 << 40).map(lambda number: number & -8),
    ahead=numbers,
    headers=st.dictionaries(st.integers(0, CAPACITY // 8 - 1), numbers, max_size=8),
    first=numbers,
    sleeps=st.integers(0, 3),
    calls=calls,
)
def test_consumers_agree(position: int, ahead: int, headers: dict[int, int], first: int, sleeps: int, calls: list[str]) -> None:
    seen = []
    for kind in (Consumer, PythonConsumer):
        bell = Bell()
        with memory() as (mapped, words):
            end = kind(0, bell, Unordered(), LIMIT)
            end.attach(mapped, words)
            end.position = position
            words[PUBLISHED] = (position + ahead) % (1 << 64)
            words[WRITER_SLEEPS] = sleeps
            for index, header in {**headers, position % CAPACITY // 8: first}.items():
                words[PAGE // 8 + index] = header
            made = {
                "take": end.take,
                "take_many": lambda end=end: end.take_many(None),
                "take_3": lambda end=end: end.take_many(3),
                "watch": lambda end=end: end.watch(2),
            }
            results = [outcome(made[call]) for call in calls]
            seen.append((results, end.position, bell.wakes, bytes(mapped)))
            end.close()
    assert seen[0] == seen[1]


sizes = st.integers(0, 80) | st.integers(0, 2100)
puts = st.lists(st.tuples(st.booleans(), st.lists(sizes, min_size=1, max_size=8)), min_size=1, max_size=10)


@given(
    start=st.integers(0, 1 << 40).map(lambda number: number & -8),
    puts=puts,
    consumed=st.lists(numbers | st.none(), min_size=10, max_size=10),
    sleeps=st.integers(0, 3),
    longest=st.integers(0, 2100),
)
def test_producers_agree(
    start: int, puts: list[tuple[bool, list[int]]], consumed: list[int | None], sleeps: int, longest: int
) -> None:
    """None: the peer has read all. Any other number is what it says."""
    seen = []
    for kind in (Producer, PythonProducer):
        bell = Bell()
        with memory() as (mapped, words):
            end = kind(0, bell, Unordered(), CAPACITY)
            end.attach(mapped, words)
            end.position = words[CONSUMED] = start
            words[READER_SLEEPS] = sleeps
            results = []
            for (many, chosen), read in zip(puts, consumed, strict=False):
                words[CONSUMED] = end.position if read is None else read
                items = [bytes([size % 251]) * size for size in chosen]
                if many:
                    results.append(outcome(lambda end=end, items=items: end.put_many(items, longest)))
                else:
                    results.append(outcome(lambda end=end, items=items: end.put(items[0])))
            seen.append((results, end.position, bell.wakes, bytes(mapped)))
            end.close()
    assert seen[0] == seen[1]


def test_messages_go_round() -> None:
    """Through the ring's end, many times, by all four ways."""
    with memory() as (mapped, words):
        producer, consumer = Producer(0, Bell(), Unordered(), CAPACITY), Consumer(0, Bell(), Unordered(), LIMIT)
        for end in (producer, consumer):
            end.attach(mapped, words)
        for number in range(3000):
            sent = [bytes([number % 251]) * (number * 7 % 300)] * (1 + number % 3)
            with pytest.raises(BlockingIOError):
                consumer.take()
            assert not consumer.watch(1)
            done = producer.put_many(sent, LIMIT)
            for item in sent[done:]:
                producer.put(item)
            assert consumer.watch(1)
            received = [consumer.take()] if number % 2 else []
            while len(received) < len(sent):
                received += consumer.take_many(None)
            assert received == sent
        for end in (producer, consumer):
            end.close()


@pytest.mark.parametrize("sleeping", [0, 1, 2])
def test_a_sleeping_peer_is_woken(sleeping: int) -> None:
    """1: once. 2: each time."""
    with memory() as (mapped, words):
        bells = Bell(), Bell()
        producer, consumer = Producer(0, bells[0], Unordered(), CAPACITY), Consumer(0, bells[1], Unordered(), LIMIT)
        for end in (producer, consumer):
            end.attach(mapped, words)
        words[READER_SLEEPS] = words[WRITER_SLEEPS] = sleeping
        for _ in range(3):
            producer.put(b"a")
            producer.put_many([b"b", b"c"], LIMIT)
            assert consumer.take() == b"a"
            assert consumer.take_many(None) == [b"b", b"c"]
        assert bells[0].wakes == [0, 1, 6][sleeping]
        assert bells[1].wakes == [0, 1, 9][sleeping]
        for end in (producer, consumer):
            end.close()


@pytest.mark.parametrize(
    "name", ["_base", "_published", "_consumed", "_reader_sleeps", "_writer_sleeps", "_capacity", "_mask", "position"]
)
@pytest.mark.parametrize("value", [-1, -8, 1, 3, 4 * CAPACITY, 1 << 62])
def test_numbers_outside_the_memory(name: str, value: int) -> None:
    """C reads and writes nothing then: the Python code meets it, if at all."""
    with memory() as (mapped, words):
        for end in (Producer(0, Bell(), Unordered(), CAPACITY), Consumer(0, Bell(), Unordered(), LIMIT)):
            end.attach(mapped, words)
            good = getattr(end, name)
            setattr(end, name, value)
            for call in (
                (lambda end=end: end.put(b"x" * 100), lambda end=end: end.put_many([b"x" * 100], LIMIT))
                if isinstance(end, Producer)
                else (end.take, lambda end=end: end.watch(1), lambda end=end: end.take_more([], 5, 1000))
            ):
                try:
                    call()
                except (*ERRORS, IndexError, ValueError):
                    pass
            setattr(end, name, good)
            end.close()


def test_memory_that_is_gone() -> None:
    with memory() as (mapped, words):
        producer, consumer = Producer(0, Bell(), Unordered(), CAPACITY), Consumer(0, Bell(), Unordered(), LIMIT)
        for end in (producer, consumer):
            with pytest.raises(BlockingIOError):  # not yet there
                end.put(b"a") if isinstance(end, Producer) else end.take()
            end.attach(mapped, words)
        producer.put(b"a")
        smaller = memoryview(bytearray(64)).cast("Q")
        consumer._words = smaller
        with pytest.raises(IndexError):
            consumer.take()
        consumer._words = words
        assert consumer.take() == b"a"
        for end in (producer, consumer):
            end.close()
            with pytest.raises(OSError, match="Bad file descriptor"):
                end.put(b"a") if isinstance(end, Producer) else end.take()


@pytest.mark.parametrize("kind", [Consumer, PythonConsumer])
def test_many_messages_are_taken_up_to_so_many_bytes(kind: type[Consumer]) -> None:
    with memory() as (mapped, words):
        producer, consumer = Producer(0, Bell(), Unordered(), CAPACITY), kind(0, Bell(), Unordered(), LIMIT)
        for end in (producer, consumer):
            end.attach(mapped, words)
        for _ in range(5):
            producer.put(b"x" * 96)  # 104 bytes of the ring
        taken: list[bytes] = []
        consumer.take_more(taken, 10, 2 * 104 + 103)
        assert len(taken) == 2
        consumer.take_more(taken, 4, CAPACITY)
        assert len(taken) == 4
        for end in (producer, consumer):
            end.close()
