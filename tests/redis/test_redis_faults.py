"""Servers that are killed, stopped, full, locked, or no servers at all; connections that are cut; passwords that must not show."""

from __future__ import annotations

import os
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

import aipc
from aipc.redis.channel import RemoteJobChannel
from aipc.testing.expect import settle, until

from ..internet import free_port
from .peers.certificates import tls_options
from .peers.servers import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aipc.redis.links.link.SILENCE", 0.5)
    monkeypatch.setattr("aipc.redis.links.wakes.SILENCE", 0.5)


def queue_at(url: str, **options: Any) -> aipc.Opening[RemoteJobChannel]:
    return cast("aipc.Opening[RemoteJobChannel]", aipc.open_channel(url, **options))


@pytest.mark.costly
async def test_a_server_that_keeps_its_file_loses_nothing_when_it_is_killed(place: Path) -> None:
    redis = RedisServer(place, "--appendonly", "yes", "--appendfsync", "always")
    acknowledged: list[bytes] = []
    got: set[bytes] = set()
    try:
        with anyio.fail_after(60):
            async with queue_at(redis.url(), lease_seconds=0.4) as sender, queue_at(redis.url(), lease_seconds=0.4) as receiver:

                async def send() -> None:
                    for number in range(300):
                        await sender.send(b"%d" % number)
                        acknowledged.append(b"%d" % number)

                async def receive() -> None:
                    while len(got) < 300:
                        with suppress(aipc.LeaseLost):  # if the server was away for longer; it comes again
                            async with receiver.lease() as job:
                                got.add(job.data)

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(send)
                    tasks.start_soon(receive)
                    for number in (50, 150):
                        await until(lambda number=number: len(acknowledged) > number)
                        redis.kill()
                        os.unlink(redis.path)
                        redis.start()
        assert got.issuperset(acknowledged)
        assert len(got) == 300
    finally:
        redis.end()


async def test_a_waiting_receive_outlives_a_server_without_its_data(redis: RedisServer) -> None:
    with anyio.fail_after(30):
        async with queue_at(redis.url()) as queue, anyio.create_task_group() as tasks:
            got: list[bytes] = []

            async def receive() -> None:
                got.append(await queue.receive())

            tasks.start_soon(receive)
            await settle()
            redis.kill()
            redis.start()
            await queue.send(b"after")
    assert got == [b"after"]


async def test_a_stopped_server_is_noticed_and_nothing_is_doubled(redis: RedisServer) -> None:
    with anyio.fail_after(30):
        async with queue_at(redis.url()) as queue:
            redis.freeze()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(queue.send, b"once")
                await anyio.sleep(2)  # longer than the silence that is borne
                redis.thaw()
            assert await queue.receive() == b"once"
            with pytest.raises(anyio.WouldBlock):
                queue.receive_nowait()


async def test_a_plain_call_does_not_wait_long_for_a_stopped_server(redis: RedisServer) -> None:
    async with queue_at(redis.url()) as queue:
        redis.freeze()
        with pytest.raises(anyio.BrokenResourceError, match="no answer"):
            queue.send_nowait(b"x")
        redis.thaw()


async def test_connections_that_are_cut_again_and_again(redis: RedisServer) -> None:
    received: list[bytes] = []
    with anyio.fail_after(60):
        async with queue_at(redis.url(), lease_seconds=0.5) as queue, anyio.create_task_group() as tasks:

            async def receive() -> None:
                while len(set(received)) < 400:
                    async with queue.lease() as job:
                        received.append(job.data)

            async def cut() -> None:
                while len(set(received)) < 400:
                    redis.command("CLIENT", "KILL", "TYPE", "normal")
                    redis.command("CLIENT", "KILL", "TYPE", "pubsub")
                    await anyio.sleep(0.02)

            tasks.start_soon(receive)
            tasks.start_soon(cut)
            for number in range(400):
                await queue.send(b"%d" % number)
    assert {int(data) for data in received} == set(range(400))


async def test_nobody_there_is_told_at_once(place: Path) -> None:
    with anyio.fail_after(5):
        with pytest.raises(aipc.ObjectMissing, match="no Redis server listens"):
            await queue_at(f"redis+unix:{place}/nobody?name=x")
        with pytest.raises(aipc.NobodyListens, match="no Redis server listens"):
            await queue_at(f"redis://127.0.0.1:{free_port('127.0.0.1')}/0/x")
        with pytest.raises(aipc.UnknownHost):
            await queue_at("redis://nobody.invalid/0/x")


async def test_what_is_no_server_is_told_at_once(place: Path) -> None:
    async def answer(channel: aipc.Channel) -> None:
        await channel.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with anyio.fail_after(5):
        async with aipc.listen(f"unix:{place}/web", framing="none") as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer)
            with pytest.raises(aipc.ProtocolError, match="no Redis server"):
                await queue_at(f"redis+unix:{place}/web?name=x")
            tasks.cancel_scope.cancel()


async def test_a_full_server_and_one_that_takes_no_writes(redis: RedisServer) -> None:
    with anyio.fail_after(30):
        async with queue_at(redis.url()) as queue:
            redis.command("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(aipc.NoSpace, match="OOM"):
                await queue.send(b"x")
            redis.command("CONFIG", "SET", "maxmemory", "0")
            redis.command("REPLICAOF", "127.0.0.1", str(free_port("127.0.0.1")))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(queue.send, b"later")
                await anyio.sleep(0.2)
                redis.command("REPLICAOF", "NO", "ONE")
            assert await queue.receive() == b"later"


async def test_passwords_are_asked_for_and_do_not_show(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    right, wrong = "r%2Fght%40p%3Ass", "wr0ng"
    redis.command("CONFIG", "SET", "requirepass", "r/ght@p:ss")
    url = f"redis+unix://{{}}@{redis.path}?name=x"
    for login in (f":{wrong}", f"default:{wrong}"):
        with pytest.raises(aipc.AccessDenied) as caught:
            await queue_at(url.format(login))
        assert wrong not in shown(caught.value)
    with pytest.raises(aipc.AccessDenied, match="NOAUTH"):
        await queue_at(redis.url())
    for login in (f":{right}", f"default:{right}"):
        async with queue_at(url.format(login)) as queue:
            assert "ght" not in repr(queue) + repr(vars(queue)) + repr(vars(queue._link))
            await queue.send(b"x")
            assert await queue.receive() == b"x"
    assert wrong not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "redis://:wr0ng@host/zero/name",
        "redis://wr0ng@host/0/name",
        "redis://:wr0ng@host/0/",
        "redis://:wr0ng@host/0/name?nope=1",
        "redis+unix://:wr0ng@?name=1",
        "redis-cluster://:wr0ng@host/1/name",
        "redis-sentinel://:wr0ng@host/0/name",
        "redi://user:wr0ng@host/0/name",
    ],
)
def test_passwords_of_wrong_urls_do_not_show(url: str) -> None:
    with pytest.raises(aipc.AddressError) as refused:
        aipc.open_lock(url).__await__().send(None)
    told = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    frames = [frame for frame in told.stack if "/aipc/" in frame.filename and frame.name != "open_lock"]  # which has the URL
    assert "wr0ng" not in str(refused.value) + "".join(str(frame.locals) for frame in frames)


def shown(error: BaseException) -> str:
    """The traceback with local variables, of the frames that are aipc's."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in told.stack if "/aipc/" in frame.filename]
    return str(error) + "".join(str(frame.locals) for frame in frames)


async def test_tls_checks_the_name(place: Path) -> None:
    port = free_port("127.0.0.1")
    redis = RedisServer(place, "--tls-port", str(port), *tls_options(place))
    try:
        with anyio.fail_after(20):
            with pytest.raises(aipc.CertificateRefused):
                await queue_at(f"rediss://127.0.0.1:{port}/0/x", cafile=f"{place}/ca.pem")
            async with queue_at(f"rediss://localhost:{port}/3/x", cafile=f"{place}/ca.pem") as queue:
                await queue.send(bytes(1_000_000))
                assert await queue.receive() == bytes(1_000_000)
                queue.send_nowait(b"x")
                assert queue.receive_nowait() == b"x"
    finally:
        redis.end()


async def test_a_link_is_shared_and_ends_with_its_last_user(redis: RedisServer) -> None:
    async with queue_at(redis.url("one")) as one:
        async with queue_at(redis.url("two")) as two, aipc.open_lock(redis.url("three")):
            assert one._link is two._link
            assert redis.command("CLIENT", "LIST").count(b"id=") == 2  # and the one that asks
        await one.send(b"x")
    await until(lambda: redis.command("CLIENT", "LIST").count(b"id=") == 1)


async def test_a_server_is_told_the_scripts_that_it_does_not_know(redis: RedisServer) -> None:
    def loaded() -> int:
        stats = redis.command("INFO", "commandstats").decode()
        return int(stats.partition("cmdstat_script|load:calls=")[2].partition(",")[0] or 0)

    async with queue_at(redis.url()) as queue:
        await queue.send(b"1")
        first = loaded()
        assert first > 20
        redis.command("CLIENT", "KILL", "TYPE", "normal")
        await queue.send(b"2")
        assert loaded() == first
        redis.command("SCRIPT", "FLUSH")
        await queue.send(b"3")
        assert loaded() == 2 * first
        assert await queue.receive_many() == [b"1", b"2", b"3"]
