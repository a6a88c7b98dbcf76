"""What a service takes at once, and what deadlines and cancellations do to it."""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import aipc
from aipc import rpc
from aipc.abc import Channel
from aipc.services.rpc.wires.json_rpc import JsonWire
from aipc.services.rpc.wires.msgpack_rpc import MessagePackWire
from aipc.testing.expect import settle

from .calling import Service, calling, listening

pytestmark = pytest.mark.anyio

CODECS = ("msgpack", "json")


async def test_no_more_methods_run_than_may() -> None:
    service = Service()
    results = []

    async def wait(number: int) -> None:
        results.append(await client.call("wait", number))

    async with calling(service, max_in_flight=3) as client, anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(wait, number)
        await service.until(lambda: len(service.running) == 3)
        await anyio.wait_all_tasks_blocked()
        assert (service.started, service.most) == (3, 3)
        service.go.set()
    assert sorted(results) == list(range(50))
    assert service.most == 3


@pytest.mark.parametrize("codec", CODECS)
async def test_the_rest_of_a_foreign_client_waits_in_the_kernel(codec: str) -> None:
    """It knows nothing of the service's limit, and sends as long as it can."""
    service = Service()
    ours, theirs = aipc.channel_pair()
    wire = JsonWire() if codec == "json" else MessagePackWire()
    async with ours, anyio.create_task_group() as tasks:
        tasks.start_soon(rpc.serve_channel, theirs, service.router, codec, 2)
        sent = 0
        with anyio.move_on_after(0.3):
            while True:
                await ours.send(wire.request(sent, "wait", ("x" * 1_000,)))
                sent += 1
        assert 50 < sent < 5_000  # the socket's buffers are full
        assert theirs.statistics().messages_received < 200
        assert service.started == 2
        service.go.set()
        answers = set()
        while len(answers) < sent:
            for event in wire.feed(await ours.receive()):
                assert event.id not in answers
                answers.add(event.id)
        assert service.most == 2
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("codec", CODECS)
async def test_cancelled_calls_cancel_their_methods(codec: str) -> None:
    service = Service()
    async with calling(service, codec, max_in_flight=5) as client:
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for _ in range(60):
                    tasks.start_soon(client.call, "wait")
                await service.until(lambda: len(service.running) == 5)
                tasks.cancel_scope.cancel()
            await service.until(lambda: not service.running)
        assert await client.call("add", 1, 2) == 3
        assert service.started == service.ended


async def test_abandoned_calls_leave_nothing() -> None:
    service = Service()
    async with calling(service) as client:
        for _ in range(300):
            with anyio.move_on_after(0):
                await client.call("wait")
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(client.call, "wait")
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()
        await service.until(lambda: not service.running)
        assert await client.call("add", 1, 2) == 3
        gc.collect()
        alive = [each for each in gc.get_objects() if type(each).__module__.startswith("aipc.services.rpc")]
        kinds = Counter(type(each).__name__ for each in alive)
        assert (kinds["Call"], kinds["Letter"]) == (0, 0)
        assert kinds["Execution"] <= 2  # the reader's last one
        assert (client._calls.unanswered, client._calls._abandoned) == (0, set())


async def test_deadlines_travel() -> None:
    service = Service()
    async with calling(service) as client:
        assert 50 < await client.call("deadline") <= 60  # the test's own
        with anyio.fail_after(5):
            assert 4 < await client.call("deadline") <= 5
        with anyio.fail_after(5):
            async with client.stream("count", 1) as numbers:
                assert await anext(numbers) == 0


async def test_no_deadline_is_none() -> None:
    ours, theirs = aipc.channel_pair()
    async with anyio.create_task_group() as tasks, rpc.connect(ours) as client:
        tasks.start_soon(rpc.serve_channel, theirs, Service().router)
        assert await client.call("deadline") is None


async def test_a_deadline_ends_the_method_and_the_call() -> None:
    service = Service()
    async with calling(service) as client:
        for _ in range(5):
            with pytest.raises(TimeoutError), anyio.fail_after(0.02):
                await client.call("wait")
            with anyio.move_on_after(0.02) as scope:
                await client.call("wait")
            assert scope.cancelled_caught
        await service.until(lambda: not service.running)
        assert service.ended == service.started


async def test_a_service_keeps_a_deadline_by_itself() -> None:
    """Also if the caller never says that it gave up."""
    service = Service()
    ours, theirs = aipc.channel_pair()
    wire = MessagePackWire()
    async with ours, anyio.create_task_group() as tasks:
        tasks.start_soon(rpc.serve_channel, theirs, service.router)
        await ours.send(wire.notification("$/request", (5, 0.02, None)))
        await ours.send(wire.request(5, "wait", ()))
        (answer,) = wire.feed(await ours.receive())
        assert isinstance(answer.error, rpc.DeadlineExceeded)
        assert isinstance(answer.error, TimeoutError)
        assert service.ended == 1
        tasks.cancel_scope.cancel()


async def test_a_nested_call_has_what_is_left(place: Path) -> None:
    inner, outer = Service(), Service()
    async with calling(inner) as client:

        @outer.router.method
        async def ask() -> float:
            return await client.call("deadline")

        async with calling(outer) as front:
            with anyio.fail_after(5):
                assert 4 < await front.call("ask") <= 5


async def test_a_lost_connection_fails_the_calls_and_cancels_the_methods() -> None:
    service = Service()
    ours, theirs = aipc.channel_pair()
    errors = []

    async def wait() -> None:
        with pytest.raises(rpc.ConnectionLost, match=r"wait: the connection was lost \(.*\) before the answer") as lost:
            await client.call("wait")
        errors.append(lost.value)

    async def serve() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await rpc.serve_channel(theirs, service.router)

    scopes: list[anyio.CancelScope] = []
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, rpc.connect(ours) as client, anyio.create_task_group() as waits:
            tasks.start_soon(serve)
            for _ in range(20):
                waits.start_soon(wait)
            await service.until(lambda: len(service.running) == 20)
            scopes[0].cancel()
        assert len(errors) == 20
        assert all(isinstance(error, anyio.BrokenResourceError) for error in errors)
        assert not service.running


async def test_calls_after_the_loss_fail_at_once() -> None:
    ours, theirs = aipc.channel_pair()
    async with rpc.connect(ours) as client:
        await theirs.aclose()
        for _ in range(2):
            with pytest.raises(rpc.ConnectionLost):
                await client.call("add", 1, 2)


async def test_the_end_of_the_client_ends_its_methods(place: Path) -> None:
    service = Service()
    url = f"unix:{place}/socket"
    async with listening(service, url):
        async with rpc.connect(url) as client, anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(client.call, "wait")
            await service.until(lambda: len(service.running) == 5)
            tasks.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            channel = await aipc.open_channel(url)
            wire = MessagePackWire()
            await channel.send(wire.request(1, "wait", ()))
            await service.until(lambda: len(service.running) == 1)
            await channel.aclose()
        await service.until(lambda: not service.running)


async def test_a_caller_that_does_not_read_keeps_no_more_than_its_methods(place: Path) -> None:
    service = Service()
    url = f"unix:{place}/socket"
    async with listening(service, url, max_in_flight=4), aipc.open_channel(url) as channel:
        await flood(channel)
        async with rpc.connect(url) as client:
            assert await client.call("add", 1, 2) == 3


async def flood(channel: Channel) -> None:
    wire = MessagePackWire()
    with anyio.move_on_after(0.3):
        for number in range(100_000):
            await channel.send(wire.request(number, "echo", (bytes(1_000),)))
        raise AssertionError("it took everything")


async def test_draining_answers_what_runs_and_closes_what_is_idle(place: Path) -> None:
    service = Service()
    url = f"unix:{place}/socket"
    results = []

    async def wait() -> None:
        results.append(await busy.call("wait", "answered"))

    async def drain() -> None:
        await listener.drain()
        results.append("drained")

    with anyio.fail_after(10):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(rpc.serve, listener, service.router)
            async with rpc.connect(url) as idle, rpc.connect(url) as busy, anyio.create_task_group() as calls:
                assert await idle.call("add", 1, 2) == 3
                calls.start_soon(wait)
                await service.until(lambda: len(service.running) == 1)
                tasks.start_soon(drain)
                with suppress(rpc.ConnectionLost):
                    while True:
                        await idle.call("echo", 1)
                assert await busy.call("add", 1, 2) == 3
                assert results == []
                service.go.set()
        assert results == ["answered", "drained"]


async def test_draining_loses_no_answer_that_the_kernel_has_no_room_for(place: Path) -> None:
    """The last answers wait to be written, and no method runs any more."""
    service = Service()
    url = f"unix:{place}/socket"
    wire = MessagePackWire()
    handler = rpc.Handler(service.router)
    answers = 0
    with anyio.fail_after(30):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks, aipc.open_channel(url) as client:
            served = await listener.accept()
            tasks.start_soon(handler, served)
            await client.send(wire.notification("wait", (1,)))
            await service.until(lambda: len(service.running) == 1)
            calls = 0
            while "still to be sent" not in repr(served):
                calls += 1
                await client.send(wire.request(calls, "echo", (bytes(900),)))
                await settle()
            handler.drain()
            service.go.set()
            await settle()
            with suppress(anyio.EndOfStream):
                while True:
                    answers += len(await client.receive()) > 900
        assert answers == calls
