"""Snapshots: the latest value, whole, whatever the writer does; a C program at the other end."""

from __future__ import annotations

import os
import signal
import struct

import anyio
import anyio.to_thread
import pytest

import aipc
from aipc.testing.expect import settle
from aipc.wire import snapshot as wire

from ..peers import compile_peer, python, run, said
from ..subjects import new_name


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("snapshot", tmp_path_factory))


@pytest.fixture
def name() -> str:
    return new_name()


def test_the_latest_value(name: str) -> None:
    with aipc.Snapshot.create(name, 100, unlink=True) as writer, aipc.Snapshot.open(name) as reader:
        assert writer.max_size == reader.max_size == 100
        assert reader.latest() is None
        assert reader.number == 0
        for number in range(1, 20):
            value = bytes([number]) * (number * 5)
            writer.publish(value)
            assert reader.latest() == reader.latest() == writer.latest() == value
            assert reader.number == number
        writer.publish(b"")
        assert reader.latest() == b""
        writer.publish(memoryview(b"a view"))
        assert reader.latest() == b"a view"


def test_too_large(name: str) -> None:
    with aipc.Snapshot.create(name, 10, unlink=True) as writer:
        writer.publish(b"0123456789")
        with pytest.raises(aipc.MessageTooLarge, match="11 bytes"):
            writer.publish(b"0123456789a")
        with pytest.raises(TypeError):
            writer.publish("text")  # type: ignore[arg-type]
        assert writer.latest() == b"0123456789"
        assert writer.number == 1


def test_one_writer(name: str) -> None:
    with aipc.Snapshot.create(name, 10) as writer:
        writer.publish(b"one")
        assert writer.writer() == os.getpid()
        with pytest.raises(aipc.ObjectExists):
            aipc.Snapshot.create(name, 10)
        with pytest.raises(aipc.ObjectExists, match=str(os.getpid())):
            aipc.Snapshot.open(name, write=True)
        with aipc.Snapshot.open(name) as reader, pytest.raises(aipc.UnsupportedOperation):
            reader.publish(b"two")
    with aipc.Snapshot.open(name) as reader:
        assert reader.writer() is None
        assert reader.latest() == b"one"
        with aipc.Snapshot.open(name, write=True) as successor:
            successor.publish(b"two")
            assert reader.latest() == b"two"
            assert reader.number == 2
            successor.unlink()
    with pytest.raises(aipc.ObjectMissing):
        aipc.Snapshot.open(name)


def test_reading_takes_read_permission_only(name: str) -> None:
    with aipc.Snapshot.create(name, 10, unlink=True, mode=0o444) as writer:
        writer.publish(b"value")
        code = f"""
import os, aipc
aipc.Snapshot, aipc.AccessDenied
if os.getuid() == 0:
    os.setuid(65534)
with aipc.Snapshot.open("{name}") as reader:
    print(reader.latest().decode())
try:
    aipc.Snapshot.open("{name}", write=True)
except aipc.AccessDenied:
    print("not to write")
"""
        with python(code) as other:
            assert [said(other), said(other)] == ["value", "not to write"]


@pytest.mark.anyio
async def test_changed(name: str) -> None:
    """Between two processes: an answer to each value."""
    answers = new_name()
    code = f"""
import asyncio, aipc
async def main():
    with aipc.Snapshot.create("{answers}", 10, unlink=True) as answers, aipc.Snapshot.open("{name}") as questions:
        print("ready", flush=True)
        while (value := await questions.changed()) != b"end":
            answers.publish(value + b"!")
asyncio.run(main())
"""
    with aipc.Snapshot.create(name, 10, unlink=True) as questions, python(code) as other, anyio.fail_after(30):
        assert await anyio.to_thread.run_sync(said, other) == "ready"
        with aipc.Snapshot.open(answers) as reader:
            for number in range(200):
                questions.publish(b"%d" % number)
                assert await reader.changed() == b"%d!" % number
            questions.publish(b"end")
            assert await anyio.to_thread.run_sync(other.wait) == 0


@pytest.mark.anyio
async def test_changed_gives_each_object_what_it_has_not_given(name: str) -> None:
    got: list[bytes] = []

    async def collect(reader: aipc.Snapshot) -> None:
        got.append(await reader.changed())

    with aipc.Snapshot.create(name, 10, unlink=True) as writer, aipc.Snapshot.open(name) as reader, anyio.fail_after(30):
        writer.publish(b"one")
        assert await reader.changed() == b"one"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, reader)
            await settle()
            assert got == []  # nothing has changed
            tasks.cancel_scope.cancel()
        writer.publish(b"two")
        writer.publish(b"three")
        assert await reader.changed() == b"three"
        writer.publish(b"four")
        assert reader.latest() == b"four"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, reader)
            await settle()
            assert got == []
            writer.publish(b"five")
        assert got == [b"five"]


@pytest.mark.anyio
async def test_closed(name: str) -> None:
    ended: list[type[BaseException]] = []

    async def wait(reader: aipc.Snapshot) -> None:
        try:
            await reader.changed()
        except anyio.ClosedResourceError as error:
            ended.append(type(error))

    with aipc.Snapshot.create(name, 10, unlink=True) as writer, anyio.fail_after(30):
        reader = aipc.Snapshot.open(name)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(wait, reader)
            await settle()
            assert ended == []
            reader.close()
            reader.close()
        assert len(ended) == 3
        for call in (reader.latest, lambda: reader.number, lambda: reader.max_size, reader.writer):
            with pytest.raises(anyio.ClosedResourceError):
                call()
        writer.close()
        with pytest.raises(anyio.ClosedResourceError):
            writer.publish(b"late")


def test_forked(name: str) -> None:
    with aipc.Snapshot.create(name, 10, unlink=True) as writer:
        if os.fork() == 0:
            status = 1
            try:
                with pytest.raises(aipc.ForkedError):
                    writer.publish(b"child")
                with pytest.raises(aipc.ForkedError):
                    writer.latest()
                writer.close()
                with aipc.Snapshot.open(name) as reader:
                    status = 0 if reader.latest() is None else 1
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        writer.publish(b"parent")
        with aipc.Snapshot.open(name) as reader:
            assert reader.latest() == b"parent"


WRITER = """
import sys, aipc
name, size = sys.argv[1], int(sys.argv[2])
with aipc.Snapshot.open(name, write=True) as writer:
    print("writing", flush=True)
    number = writer.number
    while True:
        number += 1
        writer.publish(number.to_bytes(8, "little") * (1 + number % (size // 8)))
"""


def whole(value: bytes) -> int:
    """The number that all of `value` repeats."""
    assert value == value[:8] * (len(value) // 8)
    return int.from_bytes(value[:8], "little")


@pytest.mark.parametrize(("size", "reads"), [(64, 20_000), (65_536, 2_000), (1 << 20, 200)])
def test_never_torn(size: int, reads: int, name: str) -> None:
    """A second process writes at full speed, each value another number all through, of another length."""
    with aipc.Snapshot.create(name, size):
        pass
    with python(WRITER, name, str(size)) as writer, aipc.Snapshot.open(name) as reader:
        try:
            assert said(writer) == "writing"
            last = changes = 0
            while reads > 0 or changes < 200:
                reads -= 1
                value = reader.latest()
                if value is None:
                    continue
                number = whole(value)
                assert number >= last
                assert len(value) == 8 * (1 + number % (size // 8))
                changes += number > last
                last = number
                assert writer.poll() is None
        finally:
            reader.unlink()


@pytest.mark.parametrize("size", [64, 1 << 20])
def test_a_writer_killed_at_any_moment(size: int, name: str) -> None:
    """Readers keep the last whole value; the next writer goes on."""
    with aipc.Snapshot.create(name, size):
        pass
    with aipc.Snapshot.open(name) as reader:
        try:
            last = 0
            for attempt in range(12):
                with python(WRITER, name, str(size)) as writer:
                    assert said(writer) == "writing"
                    while reader.number < last + 3 + attempt % 7:
                        pass
                    writer.send_signal(signal.SIGKILL)
                    writer.wait()
                number = whole(reader.latest() or b"")
                assert number == reader.number > last
                assert reader.latest() == reader.latest()
                last = number
        finally:
            reader.unlink()


def test_a_writer_stopped_in_the_middle(name: str) -> None:
    """Each prefix of the stores that make one value: readers have the old one until the last store."""
    with aipc.Snapshot.create(name, 16, unlink=True) as writer, aipc.Snapshot.open(name) as reader:
        for value in (b"one", b"two", b"three", b"four"):
            writer.publish(value)
        with aipc.SharedMemory.open(name) as segment:
            number, stride = 5, 64
            at = 64 + number % wire.SLOTS * stride
            for offset, stored in (
                (at, struct.pack("=Q", 0)),
                (at + 8, struct.pack("=Q", 16)),
                (at + 16, struct.pack("=I", 12345)),
                (at + 32, b"halfway through!"),
                (at, struct.pack("=Q", 5)),
            ):
                segment.buf[offset : offset + len(stored)] = stored
                assert reader.latest() == b"four"
        writer.publish(b"five")
        assert reader.latest() == b"five"


def test_a_slot_says_that_it_is_being_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is 0 before anything else of it changes, as the layout promises to readers in other languages."""
    seen = []
    original = wire._checksum

    def checksum(number: int, value: bytes) -> int:
        at = 64 + number % wire.SLOTS * 64
        seen.append(struct.unpack_from("=Q", segment.buf, at)[0])
        return original(number, value)

    monkeypatch.setattr(wire, "_checksum", checksum)
    with aipc.Snapshot.create(name, 16, unlink=True) as writer, aipc.SharedMemory.open(name, True) as segment:
        for number in range(3 * wire.SLOTS):
            writer.publish(b"%d" % number)
    assert seen == [0] * (3 * wire.SLOTS)


@pytest.mark.parametrize("offset", [0, 8, 16, 32])
def test_damage_is_an_error(offset: int, name: str) -> None:
    """Of the slot that `latest` names, whichever of its fields is wrong."""
    with aipc.Snapshot.create(name, 16, unlink=True) as writer, aipc.Snapshot.open(name) as reader:
        writer.publish(b"value")
        with aipc.SharedMemory.open(name) as segment:
            segment.buf[64 + 1 * 64 + offset] ^= 255
        with pytest.raises(aipc.ProtocolError, match="value 1 is damaged"):
            reader.latest()
        writer.publish(b"next")
        assert reader.latest() == b"next"


def test_stores_seen_late(name: str) -> None:
    """On a machine without x86's store order, `latest` may be seen before the value: then the reader looks again."""
    with aipc.Snapshot.create(name, 16, unlink=True) as writer, aipc.Snapshot.open(name) as reader:
        writer.publish(b"value")
        with aipc.SharedMemory.open(name) as segment:
            slot = slice(128, 192)
            right = bytes(segment.buf[slot])
            for wrong in (bytes(64), right[:8] + bytes(56), right[:32] + b"vXlue" + bytes(27), right[:16] + bytes(48)):
                segment.buf[slot] = wrong
                calls = []

                def value(layout: wire.Layout, number: int, calls: list[int] = calls, right: bytes = right) -> bytes | None:
                    calls.append(number)
                    if len(calls) == 3:
                        segment.buf[slot] = right
                    return original(layout, number)

                original = wire.Layout._value
                wire.Layout._value = value  # type: ignore[method-assign]
                try:
                    assert reader.latest() == b"value"
                finally:
                    wire.Layout._value = original  # type: ignore[method-assign]
                assert calls == [1, 1, 1]


@pytest.mark.parametrize(
    "memory",
    [
        b"x",
        bytes(64),
        bytes(4096),
        wire.header(100)[:63],
        b"aipcsnaP" + wire.header(10)[8:] + bytes(1000),
        struct.pack("=8sIIQQ", b"aipcsnap", 2, 3, 10, 0) + bytes(1000),
        struct.pack("=8sIIQQ", b"aipcsnap", 1, 0, 10, 0) + bytes(1000),
        struct.pack("=8sIIQQ", b"aipcsnap", 1, 1, 10, 0) + bytes(1000),
        struct.pack("=8sIIQQ", b"aipcsnap", 1, 3, 10_000, 0) + bytes(1000),
        struct.pack("=8sIIQQ", b"aipcsnap", 1, 3, (1 << 64) - 1, 0) + bytes(1000),
        struct.pack("=8sIIQQ", b"aipcsnap", 1, (1 << 32) - 1, 10, 0) + bytes(1000),
    ],
)
def test_not_a_snapshot(memory: bytes, name: str) -> None:
    with aipc.SharedMemory.create(name, len(memory), unlink=True) as segment:
        segment.buf[:] = memory
        for write in (False, True):
            with pytest.raises(aipc.WrongObject):
                aipc.Snapshot.open(name, write)


@pytest.mark.parametrize("size", [0, -1])
def test_bad_sizes(size: int, name: str) -> None:
    with pytest.raises(aipc.AddressError):
        aipc.Snapshot.create(name, size)


def test_c_reads_and_publishes(name: str, c_peer: str) -> None:
    with aipc.Snapshot.create(name, 100) as writer:
        for number in range(1, 8):
            writer.publish(b"value %d" % number)
            assert run(c_peer, "read", name) == f"value {number}\n"
    with aipc.Snapshot.open(name) as reader:
        for text in ("from C", "", "x" * 100):
            run(c_peer, "publish", name, text)
            assert reader.latest() == text.encode()
        assert reader.number == 10
        reader.unlink()
