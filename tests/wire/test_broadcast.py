"""The ring of `wire.broadcast`, byte by byte: what a writer writes, and what a reader does with bad bytes."""

from __future__ import annotations

import struct

import pytest

import aipc
from aipc.wire.broadcast import PAGE, Reader, Record, Writer

CAPACITY = 4096


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(PAGE + CAPACITY))


def test_a_reader_never_gives_a_torn_message(memory: memoryview) -> None:
    """The writer comes by in the middle of a copy."""
    writer = Writer(memory, None)
    fences = 0

    def fence() -> None:
        nonlocal fences
        fences += 1
        if fences % 2 == 0:
            for _ in range(8):
                writer.publish(b"t", b"2" * 900, 2)

    reader = Reader(memory, 0, fence)
    writer.publish(b"t", b"1" * 900, 1)
    assert reader.read() == []
    assert reader.overtaken == 1


@pytest.mark.parametrize(
    "header",
    [(0, 0, 0, 1), (33, 0, 0, 1), (40, 100, 0, 1), (40, 0, 100, 1), (40, 0, 0, 3), (8000, 0, 0, 1)],
)
def test_a_hostile_writers_records_are_refused(memory: memoryview, header: tuple[int, ...]) -> None:
    struct.pack_into("=IIHHIQQ", memory, PAGE, *header, 0, 1, 1)
    memory[:PAGE].cast("Q")[0] = memory[:PAGE].cast("Q")[16] = 64
    with pytest.raises(aipc.ProtocolError):
        Reader(memory, 0, None).read()


@pytest.mark.parametrize("published", [7, 1 << 63, 8])
def test_a_hostile_writers_positions_are_refused(memory: memoryview, published: int) -> None:
    memory[:PAGE].cast("Q")[16] = published
    reader = Reader(memory, 64, None)
    with pytest.raises(aipc.ProtocolError):
        reader.read()


def test_records_byte_by_byte(memory: memoryview) -> None:
    """As the module's page has them, so that a program in another language can read them."""
    writer = Writer(memory, None)
    writer.publish(b"eur", b"1.08", 7)
    expected = struct.pack("=IIHHIQQ", 40, 4, 3, 1, 0, 7, 1) + b"eur1.08" + b"\0"
    assert bytes(memory[PAGE : PAGE + 40]) == expected
    words = memory[:PAGE].cast("Q")
    assert [words[0], words[16], words[32]] == [40, 40, 0]
    assert Reader(memory, 0, None).read() == [Record(b"eur", b"1.08", 7, 1)]


def test_a_reader_without_news_reads_nothing(memory: memoryview) -> None:
    writer = Writer(memory, None)
    reader = Reader(memory, 0, None)
    assert not reader.behind
    assert reader.read() == []
    for number in range(1, 200):  # over the ring's end and around
        writer.publish(b"t", bytes(number % 61), number)
        assert reader.behind
        records = reader.read() or reader.read()  # the first one may end at the ring's end
        assert records == [Record(b"t", bytes(number % 61), number, number)]
    assert reader.overtaken == 0
