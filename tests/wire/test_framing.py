"""Framing alone, without a channel: whatever the cuts, the same messages; and what breaks the rules."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aipc
from aipc.abc import Buffer
from aipc.wire.framing import LONG, Framing, Rest, framing, joined

LENGTHS = {"u32": 4, "u32le": 4, "u64": 8}
LENGTH_PREFIXED = list(LENGTHS)
FORBIDDEN = {"lines": b"\n", "null": b"\0"}


def stream_of(chosen: Framing, messages: Sequence[Buffer]) -> bytes:
    """What stands on the wire for the messages."""
    frames = [chosen.encode(message) for message in messages]
    return b"".join(frame if isinstance(frame, bytes) else b"".join(frame) for frame in frames)


def chunks(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream, cut at these places."""
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(places)]


def received(chosen: Framing, reads: list[bytes]) -> tuple[list[bytes], bytes]:
    """What a channel makes of these reads: the messages, and the rest."""
    messages: list[bytes] = []
    rest: Rest = b""
    body = None
    for read in reads:
        data = read
        if body is not None:
            taken = min(len(data), body.missing)
            with body.space as space:
                space[:taken] = data[:taken]
            body.missing -= taken
            data = data[taken:]
            if body.missing:
                continue
            messages.append(body.message())
            rest, body = b"", None
        if data:
            whole, rest, error = chosen.split(data, rest)
            assert error is None
            messages += whole
            body = None if whole else chosen.body(rest)
    assert body is None
    return messages, joined(rest)


def messages_for(name: str) -> st.SearchStrategy[list[bytes]]:
    """Any messages that the framing can carry."""
    if name.startswith("fixed:"):
        size = int(name.removeprefix("fixed:"))
        return st.lists(st.binary(min_size=size, max_size=size), max_size=8)
    forbidden = FORBIDDEN.get(name, b"")
    short = st.binary(max_size=40).map(lambda message: message.replace(forbidden, b"") if forbidden else message)
    long = st.integers(LONG - 2, LONG + 2).map(lambda size: b"x" * size)
    return st.lists(st.one_of(short, short, short, long), max_size=8)


@pytest.mark.parametrize("name", [*LENGTHS, *FORBIDDEN, "fixed:1", "fixed:7"])
@given(data=st.data())
def test_any_messages_in_any_pieces(name: str, data: st.DataObject) -> None:
    chosen = framing(name)
    messages = data.draw(messages_for(name))
    stream = stream_of(chosen, messages)
    reads = chunks(stream, data.draw(st.lists(st.integers(0, 1 << 20), max_size=12)))
    got, rest = received(chosen, reads)
    assert got == messages
    assert chosen.end(rest) == ([], b"", None)


@pytest.mark.parametrize("name", [*LENGTHS, *FORBIDDEN, "fixed:7"])
@given(data=st.data())
def test_byte_by_byte(name: str, data: st.DataObject) -> None:
    chosen = framing(name)
    size = st.binary(min_size=7, max_size=7) if name == "fixed:7" else st.binary(max_size=20)
    forbidden = FORBIDDEN.get(name, b"")
    messages = [message.replace(forbidden, b"") if forbidden else message for message in data.draw(st.lists(size, max_size=6))]
    stream = stream_of(chosen, messages)
    assert received(chosen, [stream[at : at + 1] for at in range(len(stream))]) == (messages, b"")


@given(reads=st.lists(st.binary(min_size=1)))
def test_none_gives_what_was_read(reads: list[bytes]) -> None:
    assert received(framing("none"), reads) == (reads, b"")
    assert stream_of(framing("none"), reads) == b"".join(reads)


@given(garbage=st.binary(), name=st.sampled_from([*LENGTHS, *FORBIDDEN, "fixed:3", "none"]))
def test_garbage_is_never_a_crash(garbage: bytes, name: str) -> None:
    """Messages within the limit, then perhaps an error; nothing is made up."""
    messages, rest, error = framing(name, 10).split(garbage)
    assert all(len(message) <= 10 for message in messages) or name == "none"
    assert sum(map(len, messages)) + len(rest) <= len(garbage)
    assert error is None or isinstance(error, aipc.MessageTooLarge)


@pytest.mark.parametrize("name", LENGTH_PREFIXED)
def test_length_over_the_limit(name: str) -> None:
    """It is refused as soon as the length is there; the messages before it are good."""
    bad = bytes(framing(name).encode(b"x" * 11)[: LENGTHS[name]])
    good = stream_of(framing(name), [b"one", b"x" * 10])
    messages, rest, error = framing(name, 10).split(good + bad)
    assert messages == [b"one", b"x" * 10]
    assert rest == bad
    assert isinstance(error, aipc.MessageTooLarge)
    assert "announced 11 bytes" in str(error)
    assert framing(name, 10).split(bad[:-1]) == ([], bad[:-1], None)


@pytest.mark.parametrize("name", LENGTH_PREFIXED)
def test_largest_length_there_is(name: str) -> None:
    messages, _, error = framing(name).split(b"\xff" * 20)
    assert messages == []
    assert isinstance(error, aipc.MessageTooLarge)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_delimiter_within_the_limit(name: str) -> None:
    delimiter = FORBIDDEN[name]
    chosen = framing(name, 3)
    assert chosen.split(b"abc" + delimiter + b"abc") == ([b"abc"], b"abc", None)
    messages, _, error = chosen.split(b"abc" + delimiter + b"abcd")
    assert messages == [b"abc"]
    assert isinstance(error, aipc.MessageTooLarge)
    messages, _, error = chosen.split(b"a" + delimiter + b"abcd" + delimiter + b"b" + delimiter)
    assert messages == [b"a"]
    assert isinstance(error, aipc.MessageTooLarge)


@pytest.mark.parametrize("name", ["u32", "u32le", "u64", "fixed:5"])
@pytest.mark.parametrize("rest", [b"\0", b"\0\0\0"])
def test_end_within_a_message(name: str, rest: bytes) -> None:
    chosen = framing(name)
    assert chosen.split(rest) == ([], rest, None)
    messages, _, error = chosen.end(rest)
    assert messages == []
    assert isinstance(error, aipc.ProtocolError)


@pytest.mark.parametrize("name", [*LENGTHS, *FORBIDDEN, "fixed:5", "none"])
def test_end_between_messages(name: str) -> None:
    assert framing(name).end(b"") == ([], b"", None)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_last_message_without_delimiter(name: str) -> None:
    assert framing(name).end(b"rest") == ([b"rest"], b"", None)


@pytest.mark.parametrize("name", LENGTH_PREFIXED)
def test_long_messages_have_a_buffer_of_their_own(name: str) -> None:
    chosen = framing(name)
    header = chosen.encode(bytes(LONG))[0]
    assert isinstance(header, bytes)
    body = chosen.body(header + b"ab")
    assert body is not None
    assert body.missing == LONG - 2
    assert chosen.body(header[:-1]) is None
    assert chosen.body(bytes(chosen.encode(bytes(LONG - 1)))[:20]) is None


@pytest.mark.parametrize("name", [*LENGTHS, *FORBIDDEN, "fixed:3", "none"])
def test_views_of_any_shape(name: str) -> None:
    """What `bytes` would make of them is what goes."""
    every_other, backwards, words = memoryview(b"a-b-c-")[::2], memoryview(b"cba")[::-1], memoryview(b"abc\0").cast("i")[:0]
    for view in (every_other, backwards):
        assert stream_of(framing(name), [view]) == stream_of(framing(name), [b"abc"])
    if name != "fixed:3":
        assert stream_of(framing(name), [words]) == stream_of(framing(name), [b""])


@pytest.mark.parametrize("name", LENGTHS)
def test_length_counts_bytes(name: str) -> None:
    """Not the items of a memory of numbers."""
    numbers = memoryview(b"abcdefgh").cast("i")
    assert stream_of(framing(name), [numbers]) == stream_of(framing(name), [b"abcdefgh"])
    assert stream_of(framing(name), [memoryview(b"abcdefgh").cast("B", (2, 4))]) == stream_of(framing(name), [b"abcdefgh"])


@pytest.mark.parametrize("name", FORBIDDEN)
def test_first_message_over_the_limit(name: str) -> None:
    """Whatever the cuts, it is refused, and nothing of it is kept."""
    delimiter = FORBIDDEN[name]
    for reads in ([b"abcd" + delimiter], [b"abc", b"d" + delimiter], [b"ab", b"cd"], [b"abcd"], [b"abcd" + delimiter + b"e"]):
        chosen = framing(name, 3)
        rest: Rest = b""
        for read in reads:
            messages, rest, error = chosen.split(read, rest)
            assert messages == []
        assert isinstance(error, aipc.MessageTooLarge)
        assert rest == b""


@pytest.mark.parametrize(("name", "item"), [("lines", b"a\nb"), ("null", b"\0"), ("fixed:3", b"ab"), ("fixed:3", b"")])
def test_messages_that_it_cannot_carry(name: str, item: bytes) -> None:
    with pytest.raises(aipc.InvalidMessage):
        framing(name).encode(item)


@pytest.mark.parametrize("name", [*LENGTHS, *FORBIDDEN, "none"])
def test_message_over_the_limit(name: str) -> None:
    framing(name, 10).encode(b"x" * 10)
    with pytest.raises(aipc.MessageTooLarge, match="11 bytes"):
        framing(name, 10).encode(b"x" * 11)


def test_limit_of_four_bytes_of_length() -> None:
    assert framing("u32", 1 << 40).limit == (1 << 32) - 1
    assert framing("u64", 1 << 40).limit == 1 << 40


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "u16", "U32", "u32:1", "lines:1", "fixed", "fixed:", "fixed:0", "fixed:-1", "fixed:x", "fixed:1.5", "fixed:²",
        "fixed:1001", "fixed: 3", "FIXED:3", "none:3", "\n", pytest.param("fixed:" + "9" * 5_000, id="fixed:999..."),
    ],
)  # fmt: skip
def test_unknown_names(name: str) -> None:
    with pytest.raises(aipc.AddressError, match="must be one of u32, u32le, u64, lines, null, none, or fixed:N"):
        framing(name, 1_000)
