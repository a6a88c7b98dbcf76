"""Calls over every duplex mechanism: results, errors, names, both directions."""

from __future__ import annotations

import datetime
import enum
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import anyio
import pytest

import aipc
from aipc import rpc
from aipc.abc import Channel

from .calling import Point, Service, calling, listening

pytestmark = pytest.mark.anyio

CODECS = ("msgpack", "json")
MECHANISMS = ("unix", "unix+seqpacket", "shm-64-KiB", "tcp", "tls", "stream-pair")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_calls(mechanism: str, codec: str, place: Path) -> None:
    service = Service()
    async with calling(service, codec, mechanism, place) as client:
        assert await client.call("add", 1, 2) == 3
        assert await client.call("add", a=1, b=2, returns=int) == 3
        assert await client.call("add", 1) == 11
        assert await client.call("add", a=1) == 11
        assert await client.call("move", point=Point(1), by=2, returns=Point) == Point(3, 2)
        assert await client.call("plain", "a") == "A"
        assert await client.call("echo", None) is None
        big = "x" * 300_000
        if mechanism != "unix+seqpacket":
            assert await client.call("echo", big) == big
        await client.notify("log", "text")
        await service.until(lambda: service.logged == ["text"])


@pytest.mark.parametrize("codec", CODECS)
async def test_errors_have_their_types(codec: str, caplog: pytest.LogCaptureFixture) -> None:
    async with calling(Service(), codec) as client:
        with pytest.raises(rpc.MethodMissing, match="Method not found: nothing") as missing:
            await client.call("nothing", 1)
        assert missing.value.code == -32601
        for args, kwargs in [(("x",), {}), ((), {}), ((1, 2, 3), {}), ((), {"c": 1, "a": 1}), ((), {"a": "x"})]:
            with pytest.raises(rpc.InvalidParameters, match="add: ") as invalid:
                await client.call("add", *args, **kwargs)
            assert invalid.value.code == -32602
        with pytest.raises(rpc.InvalidParameters, match="by: only by name"):
            await client.call("move", Point(1))
        with pytest.raises(rpc.RemoteError, match=r"told you so \(code 77\)") as refused:
            await client.call("refuse", 77, "told you so", {"a": [1]})
        assert (refused.value.code, refused.value.message, refused.value.data) == (77, "told you so", {"a": [1]})
        assert not caplog.records
        with pytest.raises(rpc.RemoteError, match="Internal error") as failed:
            await client.call("fail")
        assert (failed.value.code, failed.value.data) == (-32603, None)
        assert "a secret" not in str(failed.value)
        assert "a secret" in caplog.text
        assert await client.call("add", 1, 2) == 3


async def test_errors_are_shown_if_asked_to() -> None:
    async with calling(Service(expose_errors=True)) as client:
        with pytest.raises(rpc.RemoteError, match="OSError: a secret") as failed:
            await client.call("fail")
        assert "Traceback" in failed.value.data


async def test_results_are_checked_at_both_ends(caplog: pytest.LogCaptureFixture) -> None:
    service = Service()

    @service.router.method
    async def wrong() -> int:
        return "text"  # type: ignore[return-value]

    @service.router.method
    async def unwritable() -> object:
        return object()

    async with calling(service) as client:
        with pytest.raises(rpc.RemoteError, match="Internal error"):
            await client.call("wrong")
        with pytest.raises(rpc.RemoteError, match="Internal error"):
            await client.call("unwritable")
        with pytest.raises(aipc.ProtocolError, match="echo: the result is not of the type"):
            await client.call("echo", "text", returns=int)
        assert await client.call("echo", "2026-01-02", returns=datetime.date) == datetime.date(2026, 1, 2)
        with pytest.raises(TypeError):
            await client.call("echo", object())
        with pytest.raises(TypeError, match="b can't be among the others"):
            await client.call("add", 1, b=2)
        assert await client.call("add", 1, 2) == 3


class Colour(enum.Enum):
    RED = 1


class Countdown:
    """An async iterator that is no generator."""

    def __init__(self, start: int) -> None:
        self.left = start

    def __aiter__(self) -> Countdown:
        return self

    async def __anext__(self) -> int:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


async def test_results_that_change_on_the_way() -> None:
    service = Service()

    @service.router.method
    async def mix(colour: Colour) -> dict[str, Colour]:
        assert colour is Colour.RED
        return {"a": colour}

    @service.router.method
    async def sizes() -> tuple[set[int], datetime.date]:
        return {1}, datetime.date(2026, 1, 2)

    @service.router.method
    def countdown(start: int) -> AsyncIterator[int]:
        return Countdown(start)

    @service.router.method
    async def later(start: int) -> AsyncIterator[int]:
        return Countdown(start)

    for codec in CODECS:
        async with calling(service, codec) as client:
            assert await client.call("mix", Colour.RED, returns=dict[str, Colour]) == {"a": Colour.RED}
            assert await client.call("sizes") == [[1], "2026-01-02"]
            for method in ("countdown", "later"):
                async with client.stream(method, 3) as items:
                    assert [item async for item in items] == [2, 1, 0]


async def test_a_deadline_of_a_service_behind_is_told_at_once() -> None:
    service = Service()

    @service.router.method
    async def behind() -> None:
        raise rpc.DeadlineExceeded(-32001, "the service behind took too long")

    async with calling(service) as client:
        with anyio.fail_after(5), pytest.raises(rpc.DeadlineExceeded, match="behind"):
            await client.call("behind")


async def test_a_result_that_is_too_long_is_an_error(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"unix:{place}/socket"
    service = Service()

    @service.router.method
    async def long() -> bytes:
        return bytes(2_000)

    async with listening(service, url + "?max_message_size=1000"), rpc.connect(url, max_message_size=1_000) as client:
        with pytest.raises(rpc.RemoteError, match="the answer can't be sent"):
            await client.call("long")
        with pytest.raises(aipc.MessageTooLarge):
            await client.call("echo", bytes(2_000))
        assert await client.call("add", 1, 2) == 3


@pytest.mark.parametrize("codec", CODECS)
async def test_answers_come_in_any_order(codec: str) -> None:
    service = Service()
    results = []

    async def wait(number: int) -> None:
        assert await client.call("wait", number) == number
        results.append(number)

    async with calling(service, codec) as client, anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(wait, number)
        await service.until(lambda: len(service.running) == 50)
        assert await client.call("add", 1, 2) == 3
        assert results == []
        service.go.set()
    assert sorted(results) == list(range(50))


@pytest.mark.parametrize("codec", CODECS)
async def test_both_sides_call(codec: str) -> None:
    service = Service()

    @service.router.method
    async def ask(question: str) -> str:
        return await rpc.current_caller().client.call("answer", question, returns=str) + "!"

    router = rpc.Router()

    @router.method
    async def answer(question: str) -> str:
        return question * 2

    async with calling(service, codec, router=router, max_in_flight=1) as client:
        assert await client.call("ask", "a") == "aa!"
    async with calling(service, codec) as client:
        with pytest.raises(rpc.MethodMissing):
            await client.call("ask", "a")


class Calculator(Protocol):
    async def add(self, a: int, b: int = 10) -> int: ...

    async def move(self, point: Point, *, by: int) -> Point: ...

    def count(self, to: int) -> AsyncIterator[int]: ...


async def test_stubs() -> None:
    async with calling(Service()) as client:
        calculator = client.bind(Calculator)  # type: ignore[type-abstract]
        assert await calculator.add(1, 2) == 3
        assert await calculator.add(1) == 11
        assert await calculator.add(b=2, a=1) == 3
        assert await calculator.move(Point(1), by=1) == Point(2, 1)
        with pytest.raises(TypeError):
            await calculator.add()  # type: ignore[call-arg]
        async with calculator.count(3) as numbers:  # type: ignore[attr-defined]
            assert [number async for number in numbers] == [0, 1, 2]

        class Wrong:
            async def add(self, a: int) -> str: ...  # type: ignore[empty-body]

        class Plain:
            def add(self, a: int) -> int: ...  # type: ignore[empty-body]

        with pytest.raises(aipc.ProtocolError):
            await client.bind(Wrong).add(1)
        with pytest.raises(TypeError, match="is not async"):
            client.bind(Plain)
        with pytest.raises(TypeError, match="declares no methods"):
            client.bind(int)


async def test_who_calls(place: Path) -> None:
    service = Service()

    @service.router.method
    async def who() -> tuple[int | None, int, str]:
        caller = rpc.current_caller()
        assert caller.credentials is not None
        assert caller.fds == ()
        return caller.credentials.pid, caller.credentials.uid, type(caller.channel).__name__

    url = f"unix:{place}/socket"
    async with listening(service, url), rpc.connect(url) as client:
        assert await client.call("who") == [os.getpid(), os.getuid(), "UnixChannel"]
    with pytest.raises(RuntimeError, match="runs no method"):
        rpc.current_caller()


async def test_many_clients(place: Path) -> None:
    url = f"unix:{place}/socket"
    async with listening(Service(), url):

        async def use(number: int) -> None:
            async with rpc.connect(url) as client:
                for other in range(20):
                    assert await client.call("add", number, other) == number + other

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(use, number)


CHILD = """
import sys
import anyio, aipc
from aipc import rpc

router = rpc.Router()

@router.method
async def add(a: int, b: int) -> int:
    return a + b

async def main():
    await rpc.serve_channel(await aipc.open_channel("fd:0,1"), router)

anyio.run(main)
"""


async def test_over_a_childs_pipes(place: Path) -> None:
    (place / "child.py").write_text(CHILD)
    with anyio.fail_after(30):
        async with rpc.connect(f"exec:{sys.executable} {place}/child.py") as client:
            assert await client.call("add", 1, 2) == 3


async def work(channel: Channel) -> None:
    await rpc.serve_channel(channel, Service().router)


@pytest.mark.costly
async def test_over_a_workers_channel() -> None:
    with anyio.fail_after(30):
        async with aipc.spawn(work) as worker, rpc.connect(worker.channel) as client:
            assert await client.call("add", 1, 2) == 3


def test_routers_refuse_what_can_not_be_meant() -> None:
    router = rpc.Router()

    @router.method("other name")
    async def one(a: int) -> int:
        return a

    assert list(router) == ["other name"]
    with pytest.raises(ValueError, match="there is one already"):
        router.method("other name")(one)
    for name in ("$/x", "rpc.x"):
        with pytest.raises(ValueError, match="are reserved"):
            router.method(name)(one)

    async def many(*args: int) -> None: ...

    async def unknown(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match=r"take a list or a dict"):
        router.method(many)
    with pytest.raises(TypeError, match="'Nowhere' in an annotation is not known"):
        router.method(unknown)


async def test_options_are_checked() -> None:
    ours, theirs = aipc.channel_pair()
    async with ours, theirs:
        with pytest.raises(ValueError, match="max_in_flight=0: must be 1 or more"):
            await rpc.serve_channel(theirs, rpc.Router(), max_in_flight=0)
        with pytest.raises(ValueError, match="codec='xml': must be one of"):
            async with rpc.connect(ours, codec="xml"):
                pass


async def test_an_error_of_the_block_is_raised_by_itself() -> None:
    ours, theirs = aipc.channel_pair()
    async with theirs:
        with pytest.raises(KeyError, match="mine"):
            async with rpc.connect(ours):
                raise KeyError("mine")
        with pytest.raises(anyio.ClosedResourceError):
            await ours.send(b"")
