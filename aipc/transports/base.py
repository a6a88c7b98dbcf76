"""The common base of all channels: all forms of receiving and sending, over one non-blocking operation for each direction."""

from __future__ import annotations

import socket
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, NoReturn

import anyio

from aipc._io.handle import Handle, SocketHandle
from aipc._io.waiter import Waiter
from aipc._sys import rights
from aipc._texts.shown import Fact, counted, parked, shown, state
from aipc.abc import Buffer, Channel, ChannelStatistics, Message
from aipc.exceptions import UnsupportedOperation

_AT_ONCE = 16_384
"""The most messages that one call returns: a faster sender must not keep it busy for ever."""


class TransportChannel(Channel):
    """A channel over `_put` and `_take`, which are non-blocking and raise BlockingIOError if they would block.

    `incoming` waits until something can be received; None if the channel only sends.
    """

    SEND_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    RECEIVE_OPTIONS: ClassVar[frozenset[str]] = frozenset()

    __slots__ = ("_bytes_received", "_bytes_sent", "_incoming", "_outgoing", "_received", "_sent")

    def __init__(self, incoming: Waiter | None) -> None:
        self._incoming = incoming
        self._outgoing: Waiter | None = None
        self._sent = self._received = self._bytes_sent = self._bytes_received = 0

    @property
    def _name(self) -> str:
        return next(iter(self._handles())).name

    @abstractmethod
    def _handles(self) -> Iterable[Handle]:
        """The handles to close."""

    @abstractmethod
    def _open_outgoing(self) -> Waiter | None:
        """Return the waiter for sending; made at the first send, because an idle connection needs none. None: only receives."""

    @abstractmethod
    def _put(self, *item: Any, **meta: Any) -> None:
        """Send one message and count it."""

    @abstractmethod
    def _take_message(self, *nothing: Any, **selection: Any) -> Message:
        """Take one message and count it."""

    def _take(self, *nothing: Any, **selection: Any) -> bytes:
        return self._take_message(**selection).data

    def _take_many(self, most: int | None, /, *nothing: Any, **selection: Any) -> list[bytes]:
        messages = [self._take(**selection)]
        while len(messages) < (most or _AT_ONCE):
            try:
                messages.append(self._take(**selection))
            except Exception:  # noqa: BLE001 - the next call raises it again; these messages come first
                break
        return messages

    def never_spin(self) -> None:
        """Park at once in each wait, instead of looking again for a while: for a channel that may be late."""
        if self._outgoing is None:
            self._outgoing = self._open_outgoing()
        for waiting in (self._incoming, self._outgoing):
            if waiting is not None:
                waiting.spins = False

    def _reading(self, selection: Mapping[str, Any]) -> Waiter:
        if self._incoming is None:
            raise UnsupportedOperation(f"{self._name}: this channel only sends")
        self._check(selection, self.RECEIVE_OPTIONS)
        return self._incoming

    def _writing(self, meta: Mapping[str, Any]) -> Waiter:
        if self._outgoing is None:
            self._outgoing = self._open_outgoing()
        if self._outgoing is None:
            raise UnsupportedOperation(f"{self._name}: this channel only receives")
        self._check(meta, self.SEND_OPTIONS)
        return self._outgoing

    def _check(self, given: Mapping[str, Any], known: frozenset[str]) -> None:
        if given and not known.issuperset(given):
            unknown = ", ".join(sorted(given.keys() - known))
            takes = ", ".join(sorted(known)) or "none"
            raise UnsupportedOperation(f"{self._name}: no such option here: {unknown} (this mechanism takes: {takes})")

    async def send(self, item: Buffer, **meta: Any) -> None:
        waiting, put = self._outgoing, self._put
        if meta or waiting is None:
            waiting, put = self._writing(meta), bind(self._put, meta)
        try:
            waiting.try_now(put, item)
        except BlockingIOError:
            await waiting.attempt(put, item)
        except OSError as error:  # no second try: the kernel tells some errors once
            raise waiting.owner.explain(error) from error

    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        try:
            self._writing(meta).attempt_nowait(bind(self._put, meta), item)
        except anyio.WouldBlock:
            raise anyio.WouldBlock(f"{self._name}: no room to send now; await send() waits for it") from None

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        waiting, put = self._writing(meta), bind(self._put, meta)
        for item in items:
            await waiting.attempt(put, item)

    def receive(self, **selection: Any) -> Coroutine[Any, Any, bytes]:  # one coroutine fewer than `async def`
        if self._incoming is not None and not selection:
            return self._incoming.attempt(self._take)
        take: Callable[[], bytes] = bind(self._take, selection)
        return self._reading(selection).attempt(take)

    def receive_nowait(self, **selection: Any) -> bytes:
        take: Callable[[], bytes] = bind(self._take, selection)
        try:
            return self._reading(selection).attempt_nowait(take)
        except anyio.WouldBlock:
            raise anyio.WouldBlock(f"{self._name}: nothing to receive now; await receive() waits for it") from None

    async def receive_many(self, max_messages: int | None = None, **selection: Any) -> list[bytes]:
        if max_messages is not None and max_messages < 1:
            raise ValueError(f"max_messages={max_messages}: must be 1 or more")
        return await self._reading(selection).attempt(bind(self._take_many, selection), max_messages)

    async def receive_message(self, **selection: Any) -> Message:
        return await self._reading(selection).attempt(bind(self._take_message, selection))

    async def send_eof(self) -> None:
        self._no_eof()

    def _no_eof(self) -> NoReturn:
        raise UnsupportedOperation(f"{self._name}: the kernel has no end-of-stream mark for this mechanism")

    def __anext__(self) -> Coroutine[Any, Any, bytes]:
        return self._reading({}).attempt(self._take_next)

    def _take_next(self) -> bytes:
        try:
            return self._take()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """`aclose` as a plain call, because it does not wait."""
        for handle in self._handles():
            handle.close()

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(self._sent, self._received, self._bytes_sent, self._bytes_received)

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        handles = [*self._handles()]
        yield self._name
        yield state(*handles)
        yield parked(self._incoming, "to receive")
        yield parked(self._outgoing, "to send")
        if self._incoming is not None:
            yield counted(len(self._incoming.buffered), "message") + " read ahead" if self._incoming.buffered else ""
        for handle in handles[:1]:
            if isinstance(handle, SocketHandle):
                yield partial(handle.glance, _peer)


def _peer(sock: socket.socket) -> str:
    """The other side: a process, or an address."""
    if sock.family == socket.AF_UNIX:
        pid, _, _ = rights.UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, rights.UCRED.size))
        return f"peer {pid}" if pid else ""
    host, port = sock.getpeername()[:2]
    return f"peer {f'[{host}]' if ':' in host else host}:{port}"


def bind(operation: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    """Return `operation` with these options; usually there are none."""
    return partial(operation, **options) if options else operation
