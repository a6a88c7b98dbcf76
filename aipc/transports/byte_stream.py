"""Messages over a stream of bytes: what Unix and TCP sockets, pipes, FIFOs and children's pipes share.

One read takes what is there; its messages wait here until they are taken, and nothing else is queued. `frame_sender` sends.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import anyio

from aipc._io.handle import FileHandle, SocketHandle
from aipc._io.loop import backend
from aipc._io.loop.reactor import Reactor
from aipc._io.readiness import Readiness
from aipc._io.waiter import Waiter
from aipc._sys.native import MOST_WRITTEN, native
from aipc._sys.signals import sigpipe
from aipc._texts.shown import Fact
from aipc.abc import Buffer, Message
from aipc.wire.framing import Body, Frame, Framing, LengthPrefixed, Rest, cut_short

from . import channel_in_c
from .frame_sender import FrameSender, pieces
from .plain_bytes import announced, warn_of_silence
from .spin_in_c import QUICK, read_beside, spin_and_read

READ_SIZE = 64 * 1024
"""Bytes a read: beyond malloc's threshold for mmap(2) each read would map and unmap memory."""
_LONG_READ_SIZE = 256 * 1024
"""Bytes a read of a long message: a peer that writes as fast as the kernel copies would keep us in one system call."""
_READS = 32
"""Reads of one message between two turns of the loop."""
_READ_PRICE = 7
"""What a read takes of the budget beside its message: a peer that always answers at once must not keep the loop."""
_INT = struct.Struct("i")
_send: Callable[[object, object], int] | None = None if native is None else native.send
_reception: Any = None if native is None else native.reception


class ByteStreamChannel(FrameSender):
    """Frames over descriptors: `reader`, `writer`, or one for both; None for the way that there is not."""

    _CALLS_PLAINLY: ClassVar[bool] = False
    """Whether `_read` is read(2) and `_push` is write(2), and nothing else."""

    _RECEIVES_IN_C: ClassVar[bool] = False
    """Whether it is a Unix socket, of which a read tells what has ended it."""

    __slots__ = ("_body", "_input_error", "_native_kind", "_reader", "_rest", "_sent_before", "_short", "_suspicious")

    def __init__(self, reader: FileHandle | None, writer: FileHandle | None, framing: Framing) -> None:
        super().__init__(None if reader is None else reader.readable, writer, framing)
        self._reader = cast(FileHandle, reader)  # never None where it is used: `_reading` has refused
        self._rest: Rest = b""  # of the last read: the start of a message
        self._body: Body | None = None  # the message that `_rest` starts, if it is long
        self._input_error: Exception | None = None  # raised when no message is left
        in_c = self._CALLS_PLAINLY and native is not None
        self._native_kind = framing.kind if in_c else 0  # of a length, where C reads
        self._short = min(MOST_WRITTEN, framing.limit) if in_c and (framing.kind or framing.is_plain) else -1  # what C can send
        self._sent_before = 0  # messages that were sent before the last one was received
        self._suspicious = False  # whether a silence after the beginning of a length was looked into

    def _read(self) -> bytes:
        """One system call; empty at the end of the stream."""
        reader = self._reader
        data = os.read(reader.fd, READ_SIZE)
        reader.readable.exhausted = len(data) < READ_SIZE and reader.readable.trusts_edges
        reader.readable.empty = False
        return data

    def _read_into(self, space: memoryview) -> int:
        """As `_read`, into a long message's own buffer: how many bytes came."""
        return os.readv(self._reader.fd, [space])

    def _push(self, frame: Frame | Sequence[memoryview]) -> int:
        """One system call: how many bytes of the frame the kernel took, at least one."""
        if sigpipe.deadly:
            return sigpipe.guarded(os.writev, self._writer.fd, pieces(frame))
        if isinstance(frame, bytes):
            return os.write(self._writer.fd, frame)
        return os.writev(self._writer.fd, frame)

    def _handles(self) -> Iterator[FileHandle]:
        ends: tuple[FileHandle | None, ...] = (self._reader, self._writer)
        return (end for end in ends if end is not None)

    def _open_outgoing(self) -> Waiter | None:
        writer: FileHandle | None = self._writer
        sigpipe.look()
        return None if writer is None else writer.writable

    async def send(self, item: Buffer, **meta: Any) -> None:
        sent = -1 if meta or _send is None else _send(self, item)
        if sent < 0:
            await super().send(item, **meta)
        elif sent:
            await self._finish(self._keep_rest(self._framing.encode(item), sent))

    def send_nowait(self, item: Buffer, **meta: Any) -> None:
        if self._outgoing is not None:
            self._outgoing.budget = max(self._outgoing.budget, 1)  # a plain call can take no turn
        sent = -1 if meta or _send is None else _send(self, item)
        if sent < 0:
            super().send_nowait(item, **meta)
        elif sent:
            self._abandon(self._keep_rest(self._framing.encode(item), sent))

    def receive(self, **selection: Any) -> Coroutine[Any, Any, bytes]:  # one coroutine fewer than `async def`
        readable = self._incoming
        if self._RECEIVES_IN_C and readable is not None and readable.quick < QUICK and not selection and self._finisher is None:
            reactor = readable._reactor
            if reactor is not None and reactor.reads_ahead:
                return self._receive_reading_ahead()
        return self._receive_in_python(**selection)

    async def _receive_reading_ahead(self) -> bytes:
        message: bytes = await _reception(self)
        return message

    def _receive_again(self) -> Coroutine[Any, Any, bytes]:
        """After a wake-up that gave nothing."""
        return self._reading({}).attempt(self._take, front=True)

    def _receive_in_python(self, **selection: Any) -> Coroutine[Any, Any, bytes]:
        waiting = self._incoming
        if selection or waiting is None or self._finisher is not None:
            waiting = self._reading(selection)
        else:
            waiting.awaits_others = self._sent == self._sent_before
        return self._receiving(waiting, self._take)

    def __anext__(self) -> Coroutine[Any, Any, bytes]:
        return self._receiving(self._reading({}), self._take_next)

    def _receiving(self, waiting: Waiter, take: Callable[[], bytes]) -> Coroutine[Any, Any, bytes]:
        if self._native_kind and waiting.exhausted and waiting.quick >= QUICK:
            return self._receive_natively(take)
        return waiting.attempt(take)

    def _reading(self, selection: Mapping[str, Any]) -> Waiter:
        waiting = super()._reading(selection)
        waiting.awaits_others = self._sent == self._sent_before
        return waiting

    async def _receive_natively(self, take: Callable[[], bytes]) -> bytes:
        """Spin, read and split in C; `take` does what is left of it."""
        readable = self._reader.readable
        if not self._rest and not readable.buffered:
            try:
                data = spin_and_read(readable, self._native_kind, self._framing.limit)
            except OSError as error:
                raise self._reader.explain(error) from error
            if data is not None:
                readable.budget -= _READ_PRICE
            if isinstance(data, tuple):
                self._received += 1
                self._sent_before = self._sent
                self._bytes_received += abs(self._native_kind) + len(data[0])
                return data[0]
            if data is not None:
                self._keep(data)
        return await readable.attempt(take)

    @property
    def reads_beside(self) -> bool:
        """Whether `read_beside` can find anything."""
        return self._CALLS_PLAINLY and native is not None and self._reader.readable.spins

    def read_beside(self, reactor: Reactor, looks: int) -> bytes | None:
        """Look so often for bytes, past the framing and the task of that loop that waits for them. None: there were none. Empty: no
        more looks.

        BrokenResourceError, ClosedResourceError.
        """
        reader = self._reader
        try:
            return read_beside(reader.readable, reader.fd, reactor, looks)
        except OSError as error:
            raise reader.explain(error) from error

    def _keep(self, data: bytes) -> None:
        """Data that was read, for the next `_take`, which raises what is wrong with it."""
        try:
            buffered = self._fill_from(data)
        except Exception as error:
            if error is not self._input_error:
                raise
        else:
            buffered.reverse()
            self._reader.readable.buffered = buffered

    def _keep_error(self, number: int) -> None:
        """A read failed: the next `_take` raises why."""
        self._input_error = self._reader.explain(OSError(number, os.strerror(number)))
        self._reader.readable.exhausted = False

    def _keep_failure(self, error: BaseException) -> None:
        """What was read is lost: the next `_take` says so."""
        lost = anyio.BrokenResourceError(f"{self._reader.name}: {error!r} came while messages were read, which are lost")
        self._input_error = error if isinstance(error, Exception) else lost
        self._reader.readable.exhausted = False

    def _take(self) -> bytes:
        readable = self._reader.readable
        if self._RECEIVES_IN_C and self._native_kind and not (readable.buffered or self._rest or self._input_error):
            message = self._take_in_c(readable)
            if message is not None:
                return message
        buffered = readable.buffered or self._fill()
        self._received += 1
        self._sent_before = self._sent
        return buffered.pop()

    def _take_in_c(self, readable: Readiness) -> bytes | None:
        """Read and split in one call; None for what is not exactly one message, which is kept for `_fill`."""
        if native is None:
            return None
        data: bytes
        data, whole, readable.empty = native.receive(self._reader.fd, self._native_kind, self._framing.limit)
        readable.exhausted = readable.empty and readable.trusts_edges
        readable.budget -= _READ_PRICE
        if not whole:
            self._keep(data)
            return None
        self._received += 1
        self._sent_before = self._sent
        self._bytes_received += abs(self._native_kind) + len(data)
        return data

    def _take_message(self) -> Message:
        return Message(self._take())

    def _take_many(self, most: int | None) -> list[bytes]:
        buffered = self._reader.readable.buffered or self._fill()
        first = 0 if most is None else max(0, len(buffered) - most)
        messages = buffered[first:]
        del buffered[first:]
        messages.reverse()
        self._received += len(messages)
        self._sent_before = self._sent
        return messages

    async def peek(self) -> bytes:
        return await self._reading({}).attempt(self._next)

    def _next(self) -> bytes:
        return (self._reader.readable.buffered or self._fill())[-1]

    def _fill(self) -> list[bytes]:
        """Read until a message is complete; the new messages, the next one last."""
        reader = self._reader
        if self._input_error is not None:
            reader.check()
            raise self._input_error.with_traceback(None)
        reader.readable.budget -= _READ_PRICE
        for _ in range(_READS):
            buffered = self._fill_from(self._read()) if self._body is None else self._fill_body(self._body)
            if buffered:
                buffered.reverse()
                reader.readable.buffered = buffered
                return buffered
        return reader.readable.yield_to_loop()

    def _fill_from(self, data: bytes) -> list[bytes]:
        """The messages that are complete with `data`, which was read."""
        if data:
            self._bytes_received += len(data)
            buffered, self._rest, error = self._framing.split(data, self._rest)
            if buffered and error is None:
                return buffered
        else:
            buffered, self._rest, error = self._framing.end(self._rest)
        self._input_error = error
        if self._rest and not buffered:
            self._look_for_plain_bytes()
        if not data and self._input_error is None:
            self._input_error = anyio.EndOfStream(
                f"{self._name}: the other side sends no more: it closed, or called send_eof()"
            )
        readable = self._reader.readable
        if self._input_error is not None:
            readable.exhausted = False  # the next try need not ask the kernel
            if not buffered:
                raise self._input_error
        elif not buffered:
            self._body = self._framing.body(self._rest)
            readable.in_long_message = self._body is not None
        return buffered

    def _look_for_plain_bytes(self) -> None:
        """Say so if a peer seems to send bytes without lengths."""
        if not isinstance(self._framing, LengthPrefixed) or not isinstance(self._rest, bytes):
            return
        if self._input_error is not None:
            self._input_error = announced(self._input_error, self._rest)
        elif len(self._rest) < 4 and not self._suspicious:
            self._suspicious = True
            backend.start_soon(warn_of_silence, self._name, self._beginning)

    def _beginning(self) -> bytes:
        return self._rest if isinstance(self._rest, bytes) and not self._reader.closed else b""

    def _fill_body(self, body: Body) -> list[bytes]:
        with body.space as space, space[:_LONG_READ_SIZE] as piece:
            count = self._read_into(piece)
        if not count:
            self._input_error = cut_short(f"all but {body.missing:,} bytes of it")
            raise self._input_error
        self._bytes_received += count
        body.missing -= count
        if body.missing:
            return []
        self._body, self._rest = None, b""
        self._reader.readable.in_long_message = False
        return [body.message()]

    def _facts(self) -> Iterator[Fact]:
        yield from super()._facts()
        yield "the other side has ended its stream" if isinstance(self._input_error, anyio.EndOfStream) else ""
        yield partial(_unread, self._writer)


def _unread(writer: FileHandle) -> str:
    """What the kernel holds for a reader. Of a socket that is memory, more than the bytes of the messages (unix(7))."""
    sends_to_socket = isinstance(writer, SocketHandle)
    (held,) = _INT.unpack(fcntl.ioctl(writer.fd, termios.TIOCOUTQ if sends_to_socket else termios.FIONREAD, bytes(_INT.size)))
    return f"the kernel holds {held:,} bytes that it sent" if held else ""


channel_in_c.prepare(ByteStreamChannel)
