"""What `logging.getLogger("aipc")` tells at DEBUG: opened, closed, waits that last, retries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc._io import long_waits
from aipc.testing.expect import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, "aipc"):
        yield caplog


async def test_opened_accepted_and_closed(told: pytest.LogCaptureFixture, place: Path) -> None:
    url = f"unix:{place}/socket"
    async with aipc.listen(url) as listener, aipc.open_channel(url), await listener.accept():
        pass
    assert f"<SocketListener {url}: open>: opened by listen" in told.messages
    assert any(
        text.startswith(f"<UnixChannel {url}: open") and text.endswith("opened by open_channel") for text in told.messages
    )
    assert any(text.startswith(f"<UnixChannel {url}: open") and text.endswith("accepted") for text in told.messages)
    assert told.messages.count(f"{url}: closed") == 3


@contextmanager
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(long_waits, "_LONG", 0.01)
        yield


@pytest.mark.parametrize("kind", ["channel", "lock"])
async def test_a_wait_that_lasts(
    kind: str, told: pytest.LogCaptureFixture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(text: str) -> bool:
        return any(text in message for message in told.messages)

    with soon(monkeypatch):
        if kind == "channel":
            ours, theirs = aipc.channel_pair("stream")
            async with ours, theirs, anyio.create_task_group() as tasks:
                tasks.start_soon(theirs.receive)
                await until(lambda: said("unix pair: until it is available to read: task "))
                await ours.send(b"x")
                await until(lambda: said(" waits no more"))
            return
        url = f"flock:{place}/lock"
        async with aipc.lock(url), aipc.open_lock(url) as other, anyio.create_task_group() as tasks:
            tasks.start_soon(other.acquire)
            await until(lambda: said(f"{url}: until it is available: task "))
            tasks.cancel_scope.cancel()


async def test_a_retry_is_told(told: pytest.LogCaptureFixture, place: Path) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_at_last, f"unix:{place}/socket")
        await until(lambda: any("; tried again in 0.0" in text for text in told.messages))
        tasks.cancel_scope.cancel()


async def open_at_last(url: str) -> Any:
    return await aipc.open_channel(url, wait=True)


async def test_nothing_is_told_nor_kept_without_debug(caplog: pytest.LogCaptureFixture) -> None:
    watched = dict(long_waits._watched)
    ours, theirs = aipc.channel_pair("stream")
    async with ours, theirs, anyio.create_task_group() as tasks:
        tasks.start_soon(theirs.receive)
        await until(lambda: "waits" in repr(theirs))
        assert long_waits._watched == watched
        tasks.cancel_scope.cancel()
    assert not caplog.messages
