"""A stream of items that a method sends, as its caller reads it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from aipc._texts.shown import Fact, counted, shown
from aipc.exceptions import ProtocolError

from .calls import Call, Calls
from .wires.base import Failure, Wire
from .wires.extension import FIRST_CREDIT

T = TypeVar("T")


class Stream(Generic[T]):
    """The items of one call: `async with client.stream("tail", path) as lines: async for line in lines`.

    At most 32 items are on their way: a slow reader delays the method, and nothing else on the connection. Leaving the block cancels
    the method. The method's error is raised after the items before it.
    """

    def __init__(self, calls: Calls, wire: Wire, method: str, params: Sequence[Any] | Mapping[str, Any], returns: Any) -> None:
        self._calls = calls
        self._wire = wire
        self._method = method
        self._params = params
        self._returns = returns
        self._call: Call | None = None
        self._taken = 0  # items since the last credit
        self._collected: deque[Any] | None = None

    async def __aenter__(self) -> Self:
        if self._call is not None:
            raise RuntimeError(f"stream {self._method!r}: it was open already: call client.stream again for another one")
        self._call = await self._calls.open(self._method, self._params, credit=FIRST_CREDIT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the method, if it still runs. Idempotent; it does not wait."""
        if self._call is not None:
            self._calls.abandon(self._call)
            self._call.items.clear()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield f"of {self._method!r}"
        yield "not open yet" if self._call is None else "ended" if self._call.over else "open"
        yield counted(len(self._call.items), "item") + " to be taken" if self._call is not None and self._call.items else ""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Return the next item. ConnectionLost, RemoteError; ProtocolError for an item of another type. Cancelled: none was consumed."""
        call = self._call
        if call is None:
            raise RuntimeError(f"stream {self._method!r}: open it first: async with client.stream(…) as items")
        while not (call.items or call.over):
            await call.queue()
        if not call.items:
            return await self._last(call)
        item = call.items.popleft()
        self._taken += 1
        if self._taken >= FIRST_CREDIT // 2:
            self._calls.allow(call, self._taken)
            self._taken = 0
        return self._value(item)

    async def _last(self, call: Call) -> T:
        """Return the next item of a peer that sends all items in its answer, or end the iteration."""
        result = await call.result()
        if self._collected is None:
            self._collected = deque(self._list(result))
        if not self._collected:
            raise StopAsyncIteration
        return self._value(self._collected.popleft())

    def _list(self, result: msgspec.Raw | None) -> Sequence[msgspec.Raw]:
        try:
            items: list[msgspec.Raw] | None = self._wire.decode(result, list[msgspec.Raw] | None)
        except Failure as error:
            raise ProtocolError(f"stream {self._method!r}: the answer is no list: {error}") from error
        return items or ()

    def _value(self, item: msgspec.Raw) -> T:
        try:
            value: T = self._wire.decode(item, self._returns)
        except Failure as error:
            raise ProtocolError(f"stream {self._method!r}: an item is not of the type {self._returns}: {error}") from error
        return value
