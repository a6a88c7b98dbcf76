"""What every segment promises: the same bytes everywhere, exact sizes, no view into memory that is gone, one owner."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.abc import Segment

from ..peers import python, said, tell
from ..subjects import new_name
from .kinds import Kind


@pytest.fixture(params=["posix", "sysv", "file"])
def named(request: pytest.FixtureRequest, place: Path) -> Kind:
    return Kind(request.param, place)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 1_000_003])
def test_the_same_bytes_and_the_exact_size(kind: Kind, size: int) -> None:
    with kind.create(size) as one, kind.open(one) as other, kind.open(one, True) as reader:
        assert one.size == other.size == reader.size == size
        assert len(one.buf) == len(other.buf) == size
        assert bytes(one.buf) == bytes(size)
        one.buf[size - 1] = 7
        other.buf[0] |= 8
        assert reader.buf[size - 1] & 7
        assert one.buf[0] & 8
        assert reader.buf.readonly
        with pytest.raises(TypeError):
            reader.buf[0] = 1


def test_typed_views(kind: Kind) -> None:
    with kind.create(4096) as one, kind.open(one) as other:
        with one.buf.cast("d") as numbers:
            numbers[3] = 0.5
        with other.buf[24:32].cast("d") as seen:
            assert seen[0] == 0.5
        array = (ctypes.c_double * 512).from_buffer(one.buf)
        assert array[3] == 0.5
        del array


def take_slice(segment: Segment) -> memoryview:
    return segment.buf[10:20]


def take_cast(segment: Segment) -> memoryview:
    return segment.buf.cast("Q")


def take_array(segment: Segment) -> object:
    return (ctypes.c_char * 8).from_buffer(segment.buf)


@pytest.mark.parametrize("take", [take_slice, take_cast, take_array])
def test_closing_with_views_out(kind: Kind, take: Callable[[Segment], Any]) -> None:
    """A named error; the segment goes on, the view too; then it closes."""
    segment = kind.create(4096)
    view = take(segment)
    for _ in range(2):
        with pytest.raises(aipc.SegmentInUse) as caught:
            segment.close()
        assert isinstance(caught.value, BufferError)
        assert str(kind.known).removeprefix("/") in str(caught.value)
    segment.buf[10] = 65
    assert bytes(view)[:1] in {b"A", b"\0"}
    assert segment.size == 4096
    del view, caught
    segment.close()
    segment.close()


def test_closed(kind: Kind) -> None:
    segment = kind.create(4096)
    buf = segment.buf
    segment.close()
    segment.close()
    assert segment.size == 4096
    with pytest.raises(ValueError, match="released"):
        buf[0]
    with pytest.raises(anyio.ClosedResourceError):
        segment.buf  # noqa: B018
    with pytest.raises(anyio.ClosedResourceError):
        segment.resize(1)
    with pytest.raises(anyio.ClosedResourceError):
        anyio.run(segment.flush)


def test_an_error_in_the_block_is_not_covered_up(kind: Kind) -> None:
    """Its traceback may hold views; they go on to show memory until they are gone, and then nothing is left."""
    segment = kind.create(4096)
    views: list[memoryview] = []

    def block() -> None:
        with segment:
            segment.buf[1] = 65
            views.append(segment.buf[1:])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert views[0][0] == 65
    with pytest.raises(anyio.ClosedResourceError):
        segment.buf  # noqa: B018


def test_forgotten(kind: Kind) -> None:
    segment = kind.create(4096)
    again = kind.open(segment)
    segment.close()
    held = [again]
    del again
    with pytest.warns(ResourceWarning, match="never closed"):
        held.clear()


def test_created_once(named: Kind) -> None:
    with named.create(100) as one:
        one.buf[0] = 5
        with pytest.raises(aipc.ObjectExists, match=str(named.known).removeprefix("/")):
            named.create(100)
        assert one.buf[0] == 5
        with named.open(one) as other:
            assert other.buf[0] == 5


def test_missing(named: Kind) -> None:
    with pytest.raises(aipc.ObjectMissing, match=str(named.known).removeprefix("/")):
        named.open(None)


def test_removed_by_its_owner_only(named: Kind) -> None:
    with named.create(100) as one:
        with named.open(one):
            pass
        with named.open(one):
            pass
    with pytest.raises(aipc.ObjectMissing):
        named.open(None)


def test_stays_until_unlinked(named: Kind) -> None:
    segment = named.create(100, unlink=False)
    segment.buf[0] = 9
    segment.close()
    with named.open(None) as again:
        assert again.buf[0] == 9
    segment.unlink()
    with pytest.raises(aipc.ObjectMissing):
        segment.unlink()
    with pytest.raises(aipc.ObjectMissing):
        named.open(None)


def test_unlink_lets_users_go_on(named: Kind) -> None:
    with named.create(100, unlink=False) as one, named.open(one) as other:
        one.unlink()
        other.buf[0] = 3
        assert one.buf[0] == 3
        with pytest.raises(aipc.ObjectMissing):
            named.open(None)


def test_unlink_leaves_a_successor_alone(named: Kind) -> None:
    with named.create(100, unlink=True) as one:
        one.unlink()
        with named.create(100, unlink=True) as successor:
            one.close()
            with pytest.raises(aipc.ObjectMissing):
                one.unlink()
            with named.open(successor):
                pass


@pytest.mark.parametrize("size", [0, -1, -(1 << 70)])
def test_sizes_that_cannot_be(kind: Kind, size: int) -> None:
    with pytest.raises(aipc.AddressError, match=f"size={size}"):
        kind.create(size)


@pytest.mark.parametrize("size", [1 << 62, 1 << 63, 1 << 64, (1 << 64) + 1, 1 << 80])
def test_sizes_over_the_limit(kind: Kind, size: int) -> None:
    with pytest.raises(aipc.NoSpace):
        kind.create(size)


@pytest.mark.parametrize("size", [1.5, "100", True, None])
def test_sizes_of_the_wrong_type(kind: Kind, size: Any) -> None:
    with pytest.raises(TypeError, match="size="):
        kind.create(size)


@pytest.mark.parametrize("mode", [-1, 0o1000, 0o4755, "600", True])
def test_bad_modes(named: Kind, mode: Any) -> None:
    with pytest.raises(aipc.AddressError, match="mode="):
        named.create(100, mode=mode)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666])
def test_the_umask_changes_nothing(named: Kind, mode: int) -> None:
    before = os.umask(0o077)
    try:
        with named.create(100, mode=mode) as segment:
            objects = aipc.list_objects() if named.name != "file" else []
            modes = [found.mode for found in objects if found.name == str(named.known)]
            assert modes == [mode] or os.stat(segment.fd).st_mode & 0o777 == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["", "/", ".", "/..", "a/b", "/a/", "x" * 256, "a\0b", "/sem.table"])
def test_posix_names_that_cannot_be(name: str) -> None:
    for call in (lambda: aipc.SharedMemory.create(name, 10), lambda: aipc.SharedMemory.open(name)):
        with pytest.raises(aipc.AddressError):
            call()


@pytest.mark.parametrize("name", [None, 3, b"/bytes"])
def test_posix_names_of_the_wrong_type(name: Any) -> None:
    with pytest.raises(TypeError):
        aipc.SharedMemory.create(name, 10)


def test_posix_name_with_and_without_its_slash() -> None:
    name = new_name()
    with aipc.SharedMemory.create(name.removeprefix("/"), 10, unlink=True) as segment, aipc.SharedMemory.open(name):
        assert segment.name == name


def test_posix_segment_that_is_none_yet() -> None:
    """As a C program leaves it between shm_open and ftruncate."""
    path = Path("/dev/shm" + new_name())
    path.touch()
    try:
        with pytest.raises(aipc.WrongObject, match="empty"):
            aipc.SharedMemory.open("/" + path.name)
    finally:
        path.unlink()
    path.symlink_to("/etc/passwd")
    try:
        with pytest.raises(aipc.WrongObject):
            aipc.SharedMemory.open("/" + path.name)
    finally:
        path.unlink()
    path.mkdir()
    try:
        with pytest.raises(aipc.WrongObject):
            aipc.SharedMemory.open("/" + path.name, True)
    finally:
        path.rmdir()


@pytest.mark.parametrize("name", ["posix", "file"])
def test_resize(name: str, place: Path) -> None:
    kind = Kind(name, place)
    with kind.create(5000) as segment:
        segment.buf[:3] = b"abc"
        old = segment.buf
        segment.resize(1_000_001)
        with pytest.raises(ValueError, match="released"):
            old[0]
        assert (segment.size, len(segment.buf)) == (1_000_001, 1_000_001)
        assert bytes(segment.buf[:4]) == b"abc\0"
        with kind.open(segment) as other:
            assert other.size == 1_000_001
        segment.resize(2)
        assert bytes(segment.buf) == b"ab"
        segment.resize(5)
        assert bytes(segment.buf) == b"ab\0\0\0"
        view = segment.buf[1:]
        with pytest.raises(aipc.SegmentInUse):
            segment.resize(10)
        assert segment.size == os.stat(segment.fd).st_size == 5
        del view
        with pytest.raises(aipc.NoSpace):
            segment.resize(1 << 62)
        with pytest.raises(aipc.AddressError):
            segment.resize(0)
        assert bytes(segment.buf) == b"ab\0\0\0"
        with kind.open(segment, True) as reader, pytest.raises(aipc.UnsupportedOperation):
            reader.resize(10)


@pytest.mark.parametrize("name", ["sysv", "memfd"])
def test_sizes_that_stay(name: str, place: Path) -> None:
    with Kind(name, place).create(5000) as segment:
        with pytest.raises(aipc.UnsupportedOperation):
            segment.resize(6000)
        assert len(segment.buf) == 5000


@pytest.mark.anyio
async def test_flush(kind: Kind) -> None:
    """Harmless where there is no disk; test_mapped_file.py sees that it writes where there is one."""
    with kind.create(5000) as segment:
        segment.buf[0] = 1
        await segment.flush()
        await segment.flush(wait=False)
        with kind.open(segment, True) as reader:
            await reader.flush()  # it has nothing to write
            assert reader.buf[0] == 1
    with pytest.raises(anyio.ClosedResourceError):
        await segment.flush()


def test_a_forked_child_shares_it_and_does_not_remove_it(kind: Kind) -> None:
    with kind.create(5000) as segment:
        if os.fork() == 0:
            status = 1
            try:
                segment.buf[0] = 7
                segment.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        assert segment.buf[0] == 7
        with kind.open(segment) as again:
            assert again.buf[0] == 7


def test_no_resource_tracker(named: Kind) -> None:
    """Another Python that opened it and ends, leaves it there (python/cpython#82300)."""
    code = f"""
import sys, aipc
segment = aipc.{named.cls.__name__}.open({str(named.known)!r})
segment.buf[0] = 4
print("open", flush=True)
sys.stdin.readline()
segment.close()
"""
    with named.create(100) as segment, python(code) as other:
        assert said(other) == "open"
        tell(other, "end")
        assert other.wait() == 0
        assert segment.buf[0] == 4
        with named.open(segment):
            pass
