"""Groups of servers that talk by TLS, and sentinels with a password."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

import aipc
from aipc.redis.channel import RemoteJobChannel

from .peers.certificates import tls_options
from .peers.groups import Cluster, Watched

pytestmark = [pytest.mark.anyio, pytest.mark.costly]
SECRET = "s3same"


@pytest.fixture
def watched(place: Path) -> Iterator[Watched]:
    group = Watched(place, tls_options(place))
    yield group
    group.end()


@pytest.fixture
def cluster(place: Path) -> Iterator[Cluster]:
    group = Cluster(place, tls_options(place))
    yield group
    group.end()


@pytest.fixture
def guarded(place: Path) -> Iterator[Watched]:
    """Without TLS. The sentinel wants a password, the master does not."""
    group = Watched(place)
    group.sentinel.command("ACL", "SETUSER", "default", "resetpass", f">{SECRET}")
    yield group
    group.end()


def queue_at(url: str, **options: Any) -> aipc.Opening[RemoteJobChannel]:
    return cast("aipc.Opening[RemoteJobChannel]", aipc.open_channel(url, **options))


async def _names_are_checked(url: Callable[..., str], ca: str) -> None:
    """The certificates are for localhost; the servers tell each other's address."""
    with pytest.raises(aipc.CertificateRefused):
        await queue_at(url("jobs", host="localhost"))
    with pytest.raises(aipc.CertificateRefused):
        await queue_at(url("jobs"), cafile=ca)


async def test_sentinels_and_their_master(watched: Watched, place: Path) -> None:
    ca = f"{place}/ca.pem"
    with anyio.fail_after(30):
        await _names_are_checked(watched.url, ca)
        with pytest.raises(aipc.CertificateRefused):
            await queue_at(watched.url("jobs", host="localhost"), cafile=ca)  # the master's
        async with queue_at(watched.url("jobs"), cafile=ca, server_hostname="localhost") as queue:
            await queue.send(bytes(100_000))
            assert await queue.receive() == bytes(100_000)
            await queue.send(b"kept")
            watched.replicated()
            watched.master.kill()
            await queue.send(b"later")
            assert [await queue.receive() for _ in range(2)] == [b"kept", b"later"]
        assert watched.replica.command("ROLE").startswith(b"*3")


async def test_a_cluster(cluster: Cluster, place: Path) -> None:
    ca = f"{place}/ca.pem"
    with anyio.fail_after(30):
        await _names_are_checked(cluster.url, ca)
        for name in "abcd":  # not all are on the nodes of the URL
            options = f"?cafile={ca}&server_hostname=localhost"
            async with queue_at(cluster.url(name) + options) as queue, aipc.open_lock(cluster.url("lock") + options) as lock:
                await queue.send(b"x")
                async with lock:
                    assert await queue.receive() == b"x"
            async with (
                aipc.open_publisher(cluster.url("topic") + options) as publisher,
                aipc.open_subscriber(cluster.url("topic") + options) as subscriber,
            ):
                await publisher.publish("it", b"x")
                assert (await subscriber.receive()).data == b"x"


async def test_sentinels_with_a_password(guarded: Watched, caplog: pytest.LogCaptureFixture) -> None:
    url = guarded.url("jobs")
    with anyio.fail_after(30):
        for wrong in ("", "?sentinel_password=wr0ng"):
            with pytest.raises(aipc.AccessDenied) as caught:
                await queue_at(url + wrong)
            assert "wr0ng" not in shown(caught.value)
        with pytest.raises(aipc.AccessDenied) as caught:
            await queue_at(url, sentinel_password="wr0ng")
        assert "wr0ng" not in shown(caught.value)
        async with queue_at(f"{url}?sentinel_password={SECRET}") as queue, queue_at(url, sentinel_password=SECRET) as other:
            assert queue._link is other._link
            told = repr(queue) + repr(vars(queue)) + repr(vars(queue._link)) + repr(vars(queue._queue))
            assert SECRET not in told
            await queue.send(b"x")
            assert await other.receive() == b"x"
    assert aipc.inspect(f"{url}?sentinel_password={SECRET}").state["ready"] == 0
    assert "wr0ng" not in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/0/jobs?sentinel_password=wr0ng",
        "rediss-cluster://h/0/jobs?sentinel_password=wr0ng",
        "redis-sentinel://h/it/x/jobs?sentinel_password=wr0ng@",
        "redis-sentinel://h/it/0/jobs?sentinelPassword=wr0ng",
        "redis-sentinel://h/it/0/jobs?sentinel_password=wr0ng&sentinel_password=wr0ng",
        "redis-sentinel://h/it/0/jobs?cafile=x&sentinel_password=wr0ng",
        "redis-cluster://h/0/jobs?cafile=wr0ng_file",
    ],
)
async def test_options_that_a_scheme_does_not_have(url: str) -> None:
    with pytest.raises(aipc.AddressError) as refused:
        await aipc.open_channel(url)
    assert "wr0ng" not in shown(refused.value).replace("wr0ng_file", "")


def shown(error: BaseException) -> str:
    """The error, and its traceback with local variables, of aipc's frames behind the one that was called."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in told.stack if "/aipc/" in frame.filename and frame.name != "open_channel"]
    return str(error) + "".join(str(frame.locals) for frame in frames)
