"""Framing in C and in Python: the same messages, the same rest, the same errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipc.wire import framing as module
from aipc.wire.framing import LONG, LengthPrefixed, Rest, framing

from . import native, needs_native

pytestmark = needs_native
LENGTHS = {"u32": 4, "u32le": 4, "u64": 8}
lengths = st.sampled_from(sorted(LENGTHS))


@contextmanager
def in_python() -> Iterator[None]:
    """`split` does not call C."""
    module.native = None
    try:
        yield
    finally:
        module.native = native


def split(chosen: LengthPrefixed, data: bytes, rest: Rest) -> tuple[list[bytes], Rest, str]:
    messages, rest, error = chosen.split(data, rest)
    return messages, rest, repr(error)


def both_split(name: str, limit: int, data: bytes, rest: bytes = b"") -> tuple[list[bytes], Rest, str]:
    """What both say of it, which must be the same."""
    chosen = framing(name, limit)
    assert isinstance(chosen, LengthPrefixed)
    with_c = split(chosen, data, rest)
    with in_python():
        assert split(chosen, data, rest) == with_c
    return with_c


@given(lengths, st.lists(st.binary(max_size=20), max_size=8))
def test_cut_at_each_byte(name: str, messages: list[bytes]) -> None:
    stream = b"".join(map(framing(name).encode, messages))
    for place in range(len(stream) + 1):
        first, rest, error = both_split(name, 100, stream[:place])
        assert error == "None"
        assert isinstance(rest, bytes)
        behind, rest, error = both_split(name, 100, stream[place:], rest)
        assert (first + behind, rest, error) == (messages, b"", "None")


@given(lengths, st.integers(0, 1 << 64), st.binary(max_size=100), st.binary(max_size=20))
def test_any_bytes(name: str, limit: int, data: bytes, rest: bytes) -> None:
    both_split(name, limit, data, rest)


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("limit", [0, 7, 8, 9, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("announced", [0, 7, 8, 9, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_announced(name: str, limit: int, announced: int) -> None:
    """More than there is, or over the limit: behind a good message, and alone."""
    length = announced.to_bytes(LENGTHS[name], "little" if name == "u32le" else "big")
    good = framing(name).encode(b"")
    both_split(name, limit, length + b"8 bytes.")
    messages, _, error = both_split(name, limit, good + length + b"8 bytes.")
    assert messages[:1] == [b""]
    if announced > limit:
        assert f"{announced:,} bytes" in error


@pytest.mark.parametrize("announced", [1 << 63, (1 << 64) - 1, (1 << 64) - 8, (1 << 64) - 16])
def test_a_length_that_wraps(announced: int) -> None:
    """A place behind it would be before it, if it was counted in 64 bits."""
    both_split("u64", (1 << 64) - 1, framing("u64").encode(b"") + announced.to_bytes(8, "big") + b"payload")


short = st.binary(max_size=40)
items = st.lists(short | st.builds(bytearray, short) | st.just(bytes(LONG)) | st.integers(), max_size=12)


@given(lengths, items, st.integers(0, 12), st.integers(0, 50), st.integers(1, 200))
def test_joined(name: str, items: list[object], first: int, limit: int, most: int) -> None:
    chosen = framing(name, limit)
    frames, end = chosen.join(items, first, most)
    taken = items[first:end]
    assert frames == b"".join(map(chosen.encode, taken))
    assert end >= first
    if end < len(items) and len(frames) < most:
        refused = items[end]
        assert type(refused) is not bytes or len(refused) > limit or len(refused) >= LONG
    if taken:
        assert len(frames) - len(chosen.encode(taken[-1])) < most


@pytest.mark.parametrize("name", ["lines", "null", "fixed:3", "none"])
def test_other_framings_are_not_in_c(name: str) -> None:
    assert framing(name).join([b"abc"], 0, 10) == (b"", 0)


@pytest.mark.parametrize("kind", [0, 1, -8, 3, 1 << 40])
def test_unknown_kinds(kind: int) -> None:
    for call in (
        lambda: native.split(b"", kind, 1),
        lambda: native.join([], 0, kind, 1, 1),
        lambda: native.spin(0, 0, 0, kind or 1, 1),  # 0: bytes without lengths
        lambda: native.receive(-1, kind, 1),
    ):
        with pytest.raises((ValueError, OverflowError)):
            call()


@pytest.mark.parametrize(
    "arguments", [(), (1, 2), ("", 4, 1), (b"", "", 1), (b"", 4, -1), (b"", 4, 1 << 64), (bytearray(), 4, 1)]
)
def test_wrong_arguments(arguments: tuple[object, ...]) -> None:
    for function in (native.split, native.join, native.spin, native.send):
        with pytest.raises((TypeError, OverflowError)):
            function(*arguments)
