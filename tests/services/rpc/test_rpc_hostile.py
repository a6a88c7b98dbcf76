"""Peers that break the rules cost their own connection, and nobody else's."""

from __future__ import annotations

import json
import logging
import random
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec
import pytest

import aipc
from aipc import rpc
from aipc.abc import Channel
from aipc.services.rpc.wires.json_rpc import JsonWire
from aipc.services.rpc.wires.msgpack_rpc import MessagePackWire

from ...peers import python
from .calling import Service, listening

pytestmark = pytest.mark.anyio

pack = msgspec.msgpack.encode
wire = MessagePackWire()


async def ends(channel: Channel) -> None:
    """The other side closes the connection."""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            await channel.receive()


GARBAGE = {
    "no MessagePack": b"\xc1",
    "no message": pack([7, 1, 2]),
    "no array": pack({"a": 1}),
    "nothing": b"",
    "a bad id": pack([0, "x", "add", []]),
    "deep": b"\x94\x00\x01\xa3add" + b"\x91" * 300_000 + b"\xc0",
    "endless": b"\xdd\xff\xff\xff\xff",
    "texts that are none": pack([0, 1, "add", []]).replace(b"add", b"\xff\xfe\xfd"),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage(name: str, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"unix:{place}/socket"
    service = Service()
    async with listening(service, url), rpc.connect(url) as client:
        async with aipc.open_channel(url) as hostile:
            await hostile.send(GARBAGE[name])
            assert await client.call("add", 1, 2) == 3
            with suppress(anyio.BrokenResourceError):
                await hostile.send(b"\xc1")
            await ends(hostile)
        assert await client.call("add", 1, 2) == 3


async def test_a_client_that_leaves_before_its_answers_is_no_error(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a health check does. What it has not read makes its end a reset."""
    url = f"unix:{place}/socket"
    async with listening(Service(), url), rpc.connect(url) as client:
        for _ in range(20):
            async with aipc.open_channel(url) as hasty:
                await hasty.send_many([pack([0, number, "add", [1, 2]]) for number in range(50)])
                await anyio.wait_readable(hasty.extra(aipc.ChannelAttribute.descriptor))
        assert await client.call("add", 1, 2) == 3
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


NOTIFICATIONS = [
    ("$/cancelRequest", [5]),
    ("$/cancelRequest", []),
    ("$/cancelRequest", {"id": [1]}),
    ("$/cancelRequest", ["x" * 1_000]),
    ("$/credit", [5, 2**31 - 1]),
    ("$/credit", [5, -1]),
    ("$/credit", [5, 2**63]),
    ("$/request", [5, -1.0, None]),
    ("$/request", [5, float("nan"), None]),
    ("$/request", [5, 1e300, 2**31 - 1]),
    ("$/request", []),
    ("$/item", [5, None]),
    ("$/item", []),
    ("$/window", [0]),
    ("$/window", [2**31 - 1]),
    ("$/window", ["x"]),
    ("$/unknown", [1]),
    ("nothing", [1]),
]


async def test_odd_notifications_do_no_harm(place: Path) -> None:
    url = f"unix:{place}/socket"
    async with listening(Service(), url), aipc.open_channel(url) as channel:
        for method, params in NOTIFICATIONS * 100:
            await channel.send(wire.notification(method, params))
        await channel.send(wire.request(5, "add", (1, 2)))
        answers = [event for message in [await channel.receive(), await channel.receive()] for event in wire.feed(message)]
        assert [type(answer).__name__ for answer in answers] == ["Notification", "Answer"]  # its window, and the sum


async def test_announcements_without_requests_are_forgotten(place: Path) -> None:
    service = Service()
    ours, theirs = aipc.channel_pair()
    async with ours, anyio.create_task_group() as tasks:
        tasks.start_soon(rpc.serve_channel, theirs, service.router)
        for number in range(2_000):
            await ours.send(wire.notification("$/request", (number, 5.0, None)))
        for number in (0, 1_999):
            await ours.send(wire.request(number, "deadline", ()))
        results = {}
        for _ in range(2):
            (answer,) = wire.feed(await ours.receive())
            results[answer.id] = wire.decode(answer.result, float | None)
        assert results[0] is None
        assert results[1_999] > 4
        tasks.cancel_scope.cancel()


async def test_the_same_id_twice_is_two_calls() -> None:
    service = Service()
    ours, theirs = aipc.channel_pair()
    async with ours, anyio.create_task_group() as tasks:
        tasks.start_soon(rpc.serve_channel, theirs, service.router)
        await ours.send(wire.request(1, "wait", ("a",)))
        await ours.send(wire.request(1, "wait", ("b",)))
        await service.until(lambda: len(service.running) == 2)
        await ours.send(wire.notification("$/cancelRequest", (1,)))
        await service.until(lambda: len(service.running) == 1)
        service.go.set()
        codes = []
        for _ in range(2):
            (answer,) = wire.feed(await ours.receive())
            assert answer.id == 1
            codes.append(answer.error and answer.error.code)
        assert sorted(codes, key=str) == [-32800, None]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_credits_beyond_reason_stop_at_the_kernel(codec: str) -> None:
    service = Service()
    ours, theirs = aipc.channel_pair()
    line = JsonWire() if codec == "json" else MessagePackWire()
    async with ours, anyio.create_task_group() as tasks:
        tasks.start_soon(rpc.serve_channel, theirs, service.router, codec)
        await ours.send(line.notification("$/request", (1, None, 2**31 - 1)))
        await ours.send(line.request(1, "endless", ()))
        for _ in range(100):
            await ours.send(line.notification("$/credit", (1, 2**31 - 1)))
        await anyio.wait_all_tasks_blocked()
        most = service.most
        assert most < 100_000
        await anyio.wait_all_tasks_blocked()
        assert service.most == most
        tasks.cancel_scope.cancel()


async def test_a_server_that_answers_nonsense() -> None:
    """Answers to nobody's calls, and twice to somebody's."""
    ours, theirs = aipc.channel_pair()
    results = []

    async def call() -> None:
        results.append(await client.call("add", 1, 2))

    with anyio.fail_after(10):
        async with theirs, rpc.connect(ours) as client:
            await theirs.receive()  # its window
            for number in range(3):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call)
                    await theirs.receive()  # the call's deadline
                    (request,) = wire.feed(await theirs.receive())
                    await theirs.send(wire.answer(99, "nobody's"))
                    await theirs.send(wire.answer(request.id, number))
                    await theirs.send(wire.answer(request.id, "twice"))
    assert results == [0, 1, 2]


async def test_more_items_than_asked_for_end_the_connection() -> None:
    ours, theirs = aipc.channel_pair()
    with anyio.fail_after(10):
        async with theirs, rpc.connect(ours) as client, client.stream("endless") as items:
            for number in range(33):
                await theirs.send(wire.notification("$/item", (0, number)))
            await anyio.wait_all_tasks_blocked()
            for number in range(32):
                assert await anext(items) == number
            with pytest.raises(rpc.ConnectionLost, match="more items than were asked for"):
                await anext(items)


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_random_bytes(codec: str, place: Path) -> None:
    """Real messages with bytes changed: the service goes on."""
    url = f"unix:{place}/socket"
    service = Service()
    line = JsonWire() if codec == "json" else MessagePackWire()
    chance = random.Random(5)
    originals = [line.request(1, "echo", ({"a": [1, 2.5, "x"]},)), line.notification("$/request", (1, 5.0, 7))]
    originals += [line.answer(1, [1]), line.error(1, rpc.RemoteError(1, "x")), line.request(2, "count", (5,))]
    async with listening(service, url, codec), rpc.connect(url, codec) as client:
        for _ in range(60):
            async with aipc.open_channel(url) as hostile:
                for _ in range(20):
                    message = bytearray(chance.choice(originals))
                    for _ in range(chance.randrange(1, 4)):
                        message[chance.randrange(len(message))] = chance.randrange(256)
                    try:
                        await hostile.send(message)
                    except anyio.BrokenResourceError:
                        break
        assert await client.call("add", 1, 2) == 3
    assert not service.running


async def test_json_to_the_letter(place: Path) -> None:
    """The examples of https://www.jsonrpc.org/specification#examples, over lines."""
    url = f"unix:{place}/socket?framing=lines"
    service = Service()

    @service.router.method
    async def subtract(minuend: int, subtrahend: int) -> int:
        return minuend - subtrahend

    @service.router.method("sum")
    async def total(a: int, b: int, c: int) -> int:
        return a + b + c

    @service.router.method
    async def get_data() -> list[object]:
        return ["hello", 5]

    missing = {"code": -32601, "message": "Method not found: foobar"}
    talks: list[tuple[str, object]] = [
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', {"result": 19, "id": 1}),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}', {"result": 19, "id": 3}),
        ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
        ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', {"error": missing, "id": "1"}),
        ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', -32700),
        ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', -32600),
        ('[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]', -32700),
        ("[]", -32600),
        ("[1]", [-32600]),
        ("[1,2,3]", [-32600] * 3),
        (
            '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method": "log", "params": ["x"]},'
            '{"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"}, {"foo": "boo"},'
            '{"jsonrpc": "2.0", "method": "foobar", "params": {"name": "myself"}, "id": "5"},'
            '{"jsonrpc": "2.0", "method": "get_data", "id": "9"}]',
            [{"result": 7, "id": "1"}, {"result": 19, "id": "2"}, -32600, {"error": missing, "id": "5"}, {"result": ["hello", 5], "id": "9"}],
        ),
        ('[{"jsonrpc": "2.0", "method": "log", "params": ["y"]}]', None),
    ]  # fmt: skip
    async with listening(service, url, "json"), aipc.open_channel(url) as channel:
        for sent, expected in talks:
            await channel.send(sent.encode())
            if expected is not None:
                assert answered(json.loads(await channel.receive())) == expected
        await channel.send(b'{"jsonrpc": "2.0", "method": "add", "params": [1, 2], "id": null}')
        assert answered(json.loads(await channel.receive())) == {"result": 3, "id": None}
        assert service.logged == ["x", "y"]


def answered(answer: object) -> object:
    """Invalid requests by their code alone."""
    if isinstance(answer, list):
        return [answered(each) for each in answer]
    assert isinstance(answer, dict)
    assert answer.pop("jsonrpc") == "2.0"
    code = answer.get("error", {}).get("code")
    if code in {-32700, -32600}:
        assert answer["id"] is None
        return code
    return answer


KILLED = """
import sys, anyio
from aipc import rpc

async def main():
    async with rpc.connect(sys.argv[1]) as client, anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(client.call, "wait")
        await client.call("add", 1, 2)
        print("called", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


async def test_a_killed_client_takes_its_methods_with_it(place: Path) -> None:
    url = f"unix:{place}/socket"
    service = Service()
    async with listening(service, url):
        with python(KILLED, url) as process:
            await service.until(lambda: len(service.running) == 10)
            process.kill()
            await service.until(lambda: not service.running)
        async with rpc.connect(url) as client:
            assert await client.call("add", 1, 2) == 3
