"""The two wires without I/O: what other implementations write is understood, and nothing else is."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipc.exceptions import MessageTooLarge, ProtocolError
from aipc.services.rpc.errors import MethodMissing, RemoteError, from_wire
from aipc.services.rpc.wires.base import Answer, Batch, Invalid, Notification, Request, Wire
from aipc.services.rpc.wires.json_rpc import MAX_BATCH_SIZE, JsonWire
from aipc.services.rpc.wires.msgpack_rpc import MessagePackWire
from aipc.services.rpc.wires.msgpack_scanner import Scanner

pack = msgspec.msgpack.encode
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def both() -> list[Wire]:
    return [MessagePackWire(), JsonWire()]


@pytest.mark.costly
@given(st.lists(VALUES, max_size=5), st.lists(st.integers(1, 40), min_size=1))
def test_scanner_finds_each_object_however_it_is_cut(values: list[object], cuts: list[int]) -> None:
    objects = [pack(value) for value in values]
    stream = b"".join(objects)
    scanner, found, at = Scanner(), [], 0
    while at < len(stream):
        size = cuts[at % len(cuts)]
        found += scanner.split(stream[at : at + size])
        at += size
    assert found == objects
    assert scanner.waiting == 0


LENGTHS = {
    "fixext": b"\xd4\x01a\xd5\x01ab\xd6\x01abcd\xd7\x01abcdefgh\xd8\x01abcdefghijklmnop",
    "ext": b"\xc7\x01\x05a\xc8\x00\x02\x05ab\xc9\x00\x00\x00\x03\x05abc",
    "long": b"\xc5\x00\x02ab\xc6\x00\x00\x00\x01a\xda\x00\x01a\xdb\x00\x00\x00\x01a\xd9\x01a",
    "many": b"\xdc\x00\x02\x01\x02\xdd\x00\x00\x00\x01\x01\xde\x00\x01\x01\x02\xdf\x00\x00\x00\x01\x01\x02",
}
COUNTS = {"fixext": 5, "ext": 3, "long": 5, "many": 4}


@pytest.mark.parametrize("name", LENGTHS)
def test_scanner_knows_every_length(name: str) -> None:
    stream = LENGTHS[name]
    scanner = Scanner()
    found = [each for at in range(len(stream)) for each in scanner.split(stream[at : at + 1])]
    assert len(found) == COUNTS[name]
    assert b"".join(found) == stream


def test_scanner_goes_on_within_nesting_of_any_depth() -> None:
    scanner = Scanner()
    assert list(scanner.split(b"\x91" * 500_000)) == []
    assert [len(each) for each in scanner.split(b"\xc0\xc0")] == [500_001, 1]


@given(st.binary())
def test_garbage_is_an_event_or_a_protocol_error(data: bytes) -> None:
    for wire in both():
        try:
            for event in wire.feed(data):
                assert isinstance(event, Request | Notification | Answer | Invalid | Batch)
        except ProtocolError:
            assert isinstance(wire, MessagePackWire)


@pytest.mark.costly
@given(st.integers(0, 2**32 - 1), st.text(), st.lists(JSON_VALUES))
def test_what_one_end_writes_the_other_reads(id: int, method: str, params: list[object]) -> None:
    for wire in both():
        (request,) = wire.feed(wire.request(id, method, params))
        assert isinstance(request, Request)
        assert (request.id, request.method, wire.decode(request.params, list)) == (id, method, params)
        assert not wire.is_named(request.params)
        (notification,) = wire.feed(wire.notification(method, {"a": params}))
        assert isinstance(notification, Notification)
        assert wire.is_named(notification.params)
        assert wire.decode(notification.params, dict) == {"a": params}
        (answer,) = wire.feed(wire.answer(id, params))
        assert isinstance(answer, Answer)
        assert (answer.id, wire.decode(answer.result, list), answer.error) == (id, params, None)
        (failed,) = wire.feed(wire.error(id, RemoteError(7, method, params)))
        assert isinstance(failed, Answer)
        assert failed.error is not None
        assert (failed.id, failed.error.code, failed.error.message, failed.error.data) == (id, 7, method, params)


def test_messagepack_as_the_specification_has_it() -> None:
    wire = MessagePackWire()
    assert wire.request(1, "add", [1, 2]) == bytes.fromhex("94 00 01 a3 616464 92 01 02")
    assert wire.answer(1, 3) == bytes.fromhex("94 01 01 c0 03")
    assert wire.notification("log", []) == bytes.fromhex("93 02 a3 6c6f67 90")
    for error in ("text", [-32601, "text"], {"code": -32601, "message": "text"}, 5):
        (answer,) = wire.feed(pack([1, 1, error, None]))
        assert isinstance(answer, Answer)
        assert isinstance(answer.error, RemoteError)


def test_messagepack_in_pieces_and_in_one() -> None:
    wire = MessagePackWire()
    stream = pack([0, 1, "a", []]) + pack([2, "b", []]) + pack([1, 3, None, 4])
    kinds = [Request, Notification, Answer]
    assert [type(event) for event in wire.feed(stream)] == kinds
    assert [type(event) for at in range(len(stream)) for event in wire.feed(stream[at : at + 1])] == kinds
    wire.end()
    list(wire.feed(stream[:-1]))
    with pytest.raises(ProtocolError, match="within a MessagePack object"):
        wire.end()


def test_messagepack_without_end_is_bounded() -> None:
    wire = MessagePackWire(limit=1_000)
    list(wire.feed(b"\xc6\xff\xff\xff\xff" + bytes(900)))
    with pytest.raises(MessageTooLarge, match="more than 1,000 bytes"):
        list(wire.feed(bytes(900)))


@pytest.mark.parametrize("bad", [[0, 5, 7, []], [0, 5], [0, 5, "a"]])
def test_messagepack_bad_request_is_answered(bad: list[object]) -> None:
    (event,) = MessagePackWire().feed(pack(bad))
    assert isinstance(event, Invalid)
    assert (event.id, event.error.code) == (5, -32600)


@pytest.mark.parametrize("bad", [pack([3, 1, 2]), pack([]), pack(5), pack({}), pack([0, "x", "a", []]), b"\xc1"])
def test_messagepack_other_things_end_the_connection(bad: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"no (Mess|mess)"):
        list(MessagePackWire().feed(bad))


def feed(value: object) -> list[object]:
    return list(JsonWire().feed(value if isinstance(value, bytes) else json.dumps(value).encode()))


def request(**members: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", **members}


def test_json_as_the_specification_has_it() -> None:
    """The examples of https://www.jsonrpc.org/specification#examples."""
    wire = JsonWire()
    assert json.loads(wire.request(1, "subtract", [42, 23])) == request(method="subtract", params=[42, 23], id=1)
    assert json.loads(wire.answer(1, 19)) == request(result=19, id=1)
    assert json.loads(wire.notification("update", [1])) == request(method="update", params=[1])
    missing = wire.error("1", MethodMissing(-32601, "Method not found"))
    assert json.loads(missing) == request(error={"code": -32601, "message": "Method not found"}, id="1")
    (parse,) = feed(b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]')
    assert isinstance(parse, Invalid)
    assert (parse.id, parse.error.code) == (None, -32700)
    (invalid,) = feed(request(method=1, params="bar"))
    assert isinstance(invalid, Invalid)
    assert (invalid.id, invalid.error.code) == (None, -32600)


@pytest.mark.parametrize(
    ("bad", "id", "code"),
    [
        (b"", None, -32700),
        (b"nonsense", None, -32700),
        (b"[1,", None, -32700),
        (b"[]", None, -32600),
        (b"1", None, -32600),
        (b'{"id": 3}', 3, -32600),
        (b'{"jsonrpc": "1.0", "method": "a", "id": "x"}', "x", -32600),
        (b'{"jsonrpc": "2.0", "method": "a", "params": 5, "id": 4}', 4, -32600),
        (b'{"jsonrpc": "2.0", "id": 4}', 4, -32600),
        (b'{"jsonrpc": "2.0", "method": "a", "id": [1]}', None, -32600),
        (b'{"jsonrpc": "2.0", "method": "a", "params": [' + b"[" * 200_000 + b"]" * 200_000 + b"]}", None, -32700),
        (b"[" + b"1," * MAX_BATCH_SIZE + b"1]", None, -32600),
        (b'"\xff\xfe"', None, -32700),
    ],
)
def test_json_invalid(bad: bytes, id: object, code: int) -> None:
    (event,) = feed(bad)
    assert isinstance(event, Invalid)
    assert (event.id, event.error.code) == (id, code)


def test_json_batch() -> None:
    (batch,) = feed([request(method="a", id=1), request(method="b"), 7])
    assert isinstance(batch, Batch)
    assert [type(call) for call in batch.calls] == [Request, Notification, Invalid]
    assert [type(event) for event in feed([request(result=1, id=1), request(result=2, id=2)])] == [Answer, Answer]


def test_errors_of_other_implementations() -> None:
    assert from_wire({"code": -32601, "message": "no"}).message == "no"
    assert isinstance(from_wire([-32602, "no", 5]), RemoteError)
    assert from_wire("boom").message == "boom"
    assert from_wire({}).code == -32000
    assert str(from_wire([1, "no"])) == "no (code 1)"
