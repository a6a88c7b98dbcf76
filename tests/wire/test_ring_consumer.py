"""Taking many records at once: only what was published, within the limit, and inside the ring."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from aipc.exceptions import MessageTooLarge, ProtocolError
from aipc.wire import ring
from aipc.wire.ring_consumer import Consumer
from aipc.wire.ring_producer import Producer

CAPACITY, LIMIT = 4096, 1000
PUBLISHED = 0  # a word of direction 0
RECORDS = 4096  # where its records begin, bytes


class Unordered:
    fence: Callable[[], None] | None = None
    global_barrier: Callable[[], bool] | None = None


class Silence:
    gone = False

    def __init__(self, woken: Callable[[], object] = lambda: None) -> None:
        self._woken = woken

    def wake_peer(self) -> bool:
        self._woken()
        return True

    def drain_doorbell(self) -> bool:
        return False

    def meet(self) -> None:
        raise BlockingIOError


@pytest.fixture
def words() -> Iterator[memoryview]:
    size = ring.memory_size(CAPACITY)
    with closing(mmap.mmap(-1, size)) as mapped, memoryview(mapped) as plain, plain.cast("Q") as words:
        yield words


def consumer(words: memoryview, position: int) -> Consumer:
    end = Consumer(0, Silence(), Unordered(), LIMIT)
    end.attach(words.obj, words)
    end.position = position
    return end


@pytest.mark.parametrize(
    ("position", "size", "published", "error"),
    [
        pytest.param(0, 100, 16, ProtocolError, id="not-published"),
        pytest.param(0, 100, 104, ProtocolError, id="published-but-for-a-word"),
        pytest.param(0, LIMIT + 1, 1016, MessageTooLarge, id="over-the-limit"),
        pytest.param(CAPACITY - 24, 9, 24, ProtocolError, id="beyond-the-end"),
    ],
)
def test_bad_record_behind_a_good_one(
    position: int, size: int, published: int, error: type[Exception], words: memoryview
) -> None:
    """The good one is taken, the bad one is the next call's error."""
    words[(RECORDS + position) // 8] = 0
    words[(RECORDS + position) // 8 + 1] = size
    words[PUBLISHED] = position + 8 + published
    end = consumer(words, position)
    assert end.take_many(None) == [b""]
    assert end.position == position + 8
    with pytest.raises(error):
        end.take_many(None)


def test_all_that_is_there_and_no_more(words: memoryview) -> None:
    for number in range(4):
        words[RECORDS // 8 + 2 * number] = 8
        words[RECORDS // 8 + 2 * number + 1] = number
    words[PUBLISHED] = 64
    end = consumer(words, 0)
    assert end.take_many(2) == [number.to_bytes(8, sys.byteorder) for number in range(2)]
    assert end.take_many(None) == [number.to_bytes(8, sys.byteorder) for number in range(2, 4)]
    with pytest.raises(BlockingIOError):
        end.take_many(None)


def test_long_message_from_a_quick_peer() -> None:
    """However quickly its parts follow each other, the loop gets its turns: BlockingIOError, and going on from there."""
    capacity, size = 4 << 20, 64 << 20
    left = memoryview(bytes(size))

    def refill() -> None:
        nonlocal left
        if left:
            left = left[producer.put_part(left) :]

    memory = ring.memory_size(capacity)
    with closing(mmap.mmap(-1, memory)) as mapped, memoryview(mapped) as plain, plain.cast("Q") as words:
        ring.prepare(words)
        producer = Producer(0, Silence(), Unordered(), capacity)
        producer.attach(mapped, words)
        end = Consumer(0, Silence(refill), Unordered(), size)
        end.attach(mapped, words)
        refill()
        turns, message, most = 0, b"", 0
        while not message:
            before = end.position
            try:
                message = end.take()
            except BlockingIOError:
                turns += 1
            most = max(most, end.position - before)
        assert len(message) == size
        assert turns >= 4
        assert most <= 16 << 20
