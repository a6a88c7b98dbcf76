"""The caller's side of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

import msgspec

from aipc._texts.shown import Fact, counted, shown
from aipc.abc import Channel
from aipc.exceptions import ProtocolError

from .calls import Call, Calls
from .fds import close_all
from .outbox import Outbox
from .stream import Stream
from .stub import stub
from .wires.base import Failure, Wire

T = TypeVar("T")


class Client:
    """Calls the other side of one connection. Any number of tasks may call at once; answers come in any order."""

    __slots__ = ("_calls", "_channel", "_outbox", "_wire")

    def __init__(self, channel: Channel, wire: Wire, outbox: Outbox, calls: Calls) -> None:
        self._channel = channel
        self._wire = wire
        self._outbox = outbox
        self._calls = calls

    @property
    def channel(self) -> Channel:
        """The connection."""
        return self._channel

    @overload
    async def call(self, method: str, /, *args: Any, returns: type[T], fds: Sequence[int] = (), **kwargs: Any) -> T: ...
    @overload
    async def call(self, method: str, /, *args: Any, returns: Any = Any, fds: Sequence[int] = (), **kwargs: Any) -> Any: ...
    async def call(self, method: str, /, *args: Any, returns: Any = Any, fds: Sequence[int] = (), **kwargs: Any) -> Any:
        """Call a method and wait for its result: `call("add", 1, 2)` or `call("add", a=1, b=2)`, not both ways at once.

        `returns`: the type that the result must have. `fds`: descriptors to send with the call (Unix sockets); they stay open here. The
        first ones wait until the other side has said that it accepts descriptors; only aipc's does.
        The deadline of the scopes around it goes with the call.

        RemoteError, MethodMissing, InvalidParameters, DeadlineExceeded: the answer. ConnectionLost, a BrokenResourceError: there was
        none. ProtocolError: a result of another type. TypeError: an argument that the codec cannot write. Errors as `Channel.send`.
        Cancelled: the method is cancelled, too, unless it has ended; its answer is dropped.
        """
        if fds:
            await self._calls.agree_on_fds()
        result, received = await self._call(method, _params(method, args, kwargs), fds, returns)
        if received:
            close_all(received)
        return result

    async def call_with_fds(
        self, method: str, /, *args: Any, returns: Any = Any, fds: Sequence[int] = (), **kwargs: Any
    ) -> tuple[Any, tuple[int, ...]]:
        """Like `call`; returns the result, and the descriptors that came with it, which you close. Cancelled: none is left open."""
        await self._calls.agree_on_fds()
        return await self._call(method, _params(method, args, kwargs), fds, returns)

    async def _call(self, method: str, params: Any, fds: Sequence[int], returns: Any) -> tuple[Any, tuple[int, ...]]:
        call = await self._calls.open(method, params, fds)
        try:
            result = self._decode(call, await call.result(), returns)
        except BaseException:
            self._calls.abandon(call)
            raise
        return result, call.fds

    def _decode(self, call: Call, result: msgspec.Raw | None, returns: Any) -> Any:
        try:
            return self._wire.decode(result, returns)
        except Failure as error:
            raise ProtocolError(f"{call.method}: the result is not of the type {returns}: {error}") from error

    async def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Call a method without an answer; returns when the kernel holds the call. Cancelled: the whole call was sent, or nothing."""
        await self._outbox.send(self._wire.notification(method, _params(method, args, kwargs)))

    def stream(self, method: str, /, *args: Any, returns: Any = Any, **kwargs: Any) -> Stream[Any]:
        """Call a streaming method: `async with client.stream("tail", path) as lines: async for line in lines`.

        `returns`: the type of each item. Errors as `call`. Cancelled, or left: the method is cancelled.
        """
        return Stream(self._calls, self._wire, method, _params(method, args, kwargs), returns)

    def bind(self, interface: type[T]) -> T:
        """Return an object with the async methods that a class declares: each calls the method of its name, and checks the result.

        A method annotated as an AsyncIterator returns a Stream.
        """
        return stub(interface, self.call, self.stream)

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield f"over {self._channel!r}"
        yield counted(self._calls.unanswered, "unanswered call")


def _params(method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any] | Mapping[str, Any]:
    if args and kwargs:
        raise TypeError(f"{method}: arguments go by position, or all by name: {', '.join(kwargs)} can't be among the others")
    return kwargs or args
