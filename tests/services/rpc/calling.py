"""A service with a bit of everything, and two ends of a connection to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec

import aipc
from aipc import rpc
from aipc.abc import Channel

from ...subjects import CHANNELS


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Service:
    """Its router, and what its methods saw."""

    def __init__(self, **options: Any) -> None:
        self.router = rpc.Router(**options)
        self.logged: list[str] = []
        self.started = 0
        self.ended = 0
        self.running: set[object] = set()
        self.most = 0
        self.go = anyio.Event()
        self.changed = anyio.Event()
        for method in (self.add, self.echo, self.move, self.fail, self.refuse, self.log, self.wait, self.count, self.deadline):
            self.router.add(method)
        for method in (self.plain, self.broken_stream, self.endless):
            self.router.add(method)

    async def add(self, a: int, b: int = 10) -> int:
        return a + b

    async def echo(self, data: Any) -> Any:
        return data

    async def move(self, point: Point, *, by: int) -> Point:
        return Point(point.x + by, point.y + by)

    async def fail(self) -> None:
        raise OSError("a secret")

    async def refuse(self, code: int, message: str, data: Any) -> None:
        raise rpc.RemoteError(code, message, data)

    async def log(self, text: str) -> None:
        self.logged.append(text)
        self._change()

    async def wait(self, result: Any = None) -> Any:
        """Until `go` is set."""
        self.started += 1
        token = object()
        self.running.add(token)
        self.most = max(self.most, len(self.running))
        self._change()
        try:
            await self.go.wait()
        finally:
            self.running.discard(token)
            self.ended += 1
            self._change()
        return result

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async def endless(self) -> AsyncIterator[int]:
        self.started += 1
        number = 0
        try:
            while True:
                self.most = number
                yield number
                number += 1
        finally:
            self.ended += 1
            self._change()

    async def broken_stream(self) -> AsyncIterator[int]:
        yield 1
        raise rpc.RemoteError(7, "no more")

    async def deadline(self) -> float | None:
        left = rpc.current_caller().deadline - anyio.current_time()
        return left if left < 1e9 else None

    def plain(self, text: str) -> str:
        return text.upper()

    def _change(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def until(self, true: Any) -> None:
        while not true():
            await self.changed.wait()


@asynccontextmanager
async def served(channel: Channel, service: Service, codec: str = "msgpack", **options: Any) -> AsyncIterator[None]:
    """The service at that end of a connection."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve, channel, service, codec, options)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _serve(channel: Channel, service: Service, codec: str, options: dict[str, Any]) -> None:
    with suppress(anyio.BrokenResourceError):
        await rpc.serve_channel(channel, service.router, codec=codec, **options)


@asynccontextmanager
async def calling(
    service: Service, codec: str = "msgpack", mechanism: str = "stream-pair", place: Path | None = None, **options: Any
) -> AsyncIterator[rpc.Client]:
    """A client of the service, over that mechanism."""
    router = options.pop("router", None)
    with anyio.fail_after(60):
        async with (
            CHANNELS[mechanism](place).open_pair() as (ours, theirs),
            served(theirs, service, codec, **options),
            rpc.connect(ours, codec, router) as client,
        ):
            yield client


@asynccontextmanager
async def listening(service: Service, url: str, codec: str = "msgpack", **options: Any) -> AsyncIterator[None]:
    """The service, listening."""
    with anyio.fail_after(60):
        async with aipc.listen(url) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: rpc.serve(listener, service.router, codec, **options))
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
