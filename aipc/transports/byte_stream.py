"""Messages over a stream of bytes: what Unix and TCP sockets, pipes, FIFOs and children's pipes share.

Receiving: one read takes what is there; its messages wait here until they are taken, and nothing else is queued. Sending: a
frame is tried in one system call. If the kernel takes only a part, the channel remembers the rest as `_unfinished`, and
every later write finishes that first, so that frames never tear.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, cast

import anyio

from aipc._io.handle import FileHandle
from aipc._io.loop import backend
from aipc._io.waiter import Waiter
from aipc._sys.signals import sigpipe
from aipc.abc import Buffer, Message, StreamChannel
from aipc.exceptions import AipcError
from aipc.wire.framing import Body, Frame, Framing, LengthPrefixed, Rest, cut_short

from .base import TransportChannel, bind
from .plain_bytes import announced, warn_of_silence

READ_SIZE = 64 * 1024
"""Bytes a read: beyond malloc's threshold for mmap(2) each read would map and unmap memory."""
_LONG_READ_SIZE = 256 * 1024
"""Bytes a read of a long message: a peer that writes as fast as the kernel copies would keep us in one system call."""
_READS = 32
"""Reads of one message between two turns of the loop."""
_BATCH_SIZE = 128 * 1024
GONE: tuple[type[Exception], ...] = (AipcError, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)


class Unfinished:
    """Frames of which the kernel took only a part: no other frame may start before they are through."""

    __slots__ = ("_done", "_frames", "views")

    def __init__(self, frame: Frame, frames: Sequence[Frame]) -> None:
        self.views: list[memoryview] = [memoryview(piece) for piece in _pieces(frame) if len(piece)]
        self._frames = frames
        self._done = 0

    def advance(self, count: int) -> None:
        """The kernel took `count` bytes more."""
        self._done += count
        while count:
            first = self.views[0]
            if count < len(first):
                self.views[0] = first[count:]
                return
            count -= len(first)
            del self.views[0]

    def cut(self) -> int:
        """Keep only the message that has begun, as a copy: its sender gave up. How many messages are dropped."""
        ends = list(accumulate(map(size_of, self._frames)))
        begun = bisect_left(ends, self._done)
        left = ends[begun] - self._done  # none, if the kernel stopped exactly between two messages
        self.views = [memoryview(b"".join(self.views))[:left]] if left else []
        self._frames = self._frames[: begun + 1]
        return len(ends) - begun - 1


class ByteStreamChannel(TransportChannel, StreamChannel):
    """Frames over descriptors: `reader`, `writer`, or one for both; None for the way that there is not."""

    __slots__ = (
        "_body", "_finisher", "_framing", "_input_error", "_output_ended", "_reader", "_rest", "_suspicious", "_unfinished",
        "_writer",
    )  # fmt: skip

    def __init__(self, reader: FileHandle | None, writer: FileHandle | None, framing: Framing) -> None:
        super().__init__(None if reader is None else reader.readable)
        # Never None where they are used: `_reading` and `_writing` have refused the way that there is not.
        self._reader = cast(FileHandle, reader)
        self._writer = cast(FileHandle, writer)
        self._framing = framing
        self._rest: Rest = b""  # of the last read: the start of a message
        self._body: Body | None = None  # the message that `_rest` starts, if it is long
        self._input_error: Exception | None = None  # raised when no message is left
        self._output_ended = False
        self._unfinished: Unfinished | None = None
        self._suspicious = False  # whether a silence after the beginning of a length was looked into
        self._finisher: object = None  # the loop in which a task finishes what its sender gave up

    def _read(self) -> bytes:
        """One system call; empty at the end of the stream."""
        reader = self._reader
        data = os.read(reader.fd, READ_SIZE)
        reader.readable.exhausted = len(data) < READ_SIZE and reader.readable.trusts_edges
        return data

    def _read_into(self, space: memoryview) -> int:
        """As `_read`, into a long message's own buffer: how many bytes came."""
        return os.readv(self._reader.fd, [space])

    def _push(self, frame: Frame | Sequence[memoryview]) -> int:
        """One system call: how many bytes of the frame the kernel took, at least one."""
        if sigpipe.deadly:
            return sigpipe.guarded(os.writev, self._writer.fd, _pieces(frame))
        if isinstance(frame, bytes):
            return os.write(self._writer.fd, frame)
        return os.writev(self._writer.fd, frame)

    def _push_beside(self, frame: Frame, fds: Sequence[int]) -> int:
        """As `_push`, with descriptors beside the frame's first byte, where the mechanism has that."""
        raise NotImplementedError

    def _handles(self) -> Iterator[FileHandle]:
        ends: tuple[FileHandle | None, ...] = (self._reader, self._writer)
        return (end for end in ends if end is not None)

    def _open_outgoing(self) -> Waiter | None:
        writer: FileHandle | None = self._writer
        sigpipe.look()
        return None if writer is None else writer.writable

    def receive(self, **selection: Any) -> Coroutine[Any, Any, bytes]:  # one coroutine fewer than `async def`
        waiting = self._incoming
        if selection or waiting is None or self._finisher is not None:
            waiting = self._reading(selection)
        return waiting.attempt(self._take)

    def _take(self) -> bytes:
        buffered = self._reader.readable.buffered or self._fill()
        self._received += 1
        return buffered.pop()

    def _take_message(self) -> Message:
        return Message(self._take())

    def _take_many(self, most: int | None) -> list[bytes]:
        buffered = self._reader.readable.buffered or self._fill()
        first = 0 if most is None else max(0, len(buffered) - most)
        messages = buffered[first:]
        del buffered[first:]
        messages.reverse()
        self._received += len(messages)
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
        buffered: list[bytes] = []
        reads = 0
        while not buffered:
            reads += 1
            if reads > _READS:
                reader.readable.yield_to_loop()
            if self._body is not None:
                buffered = self._fill_body(self._body)
                continue
            data = self._read()
            if data:
                self._bytes_received += len(data)
                split = self._framing.split(data, self._rest)
            else:
                split = self._framing.end(self._rest)
            buffered, self._rest, self._input_error = split
            if self._rest and not buffered:
                self._look_for_plain_bytes()
            if not data and self._input_error is None:
                self._input_error = anyio.EndOfStream(
                    f"{self._name}: the other side sends no more: it closed, or called send_eof()"
                )
            if self._input_error is not None:
                reader.readable.exhausted = False  # the next try need not ask the kernel
            if not buffered:
                if self._input_error is not None:
                    raise self._input_error
                self._body = self._framing.body(self._rest)
                reader.readable.in_long_message = self._body is not None
        buffered.reverse()
        reader.readable.buffered = buffered
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

    async def send(self, item: Buffer, **meta: Any) -> None:
        waiting = self._outgoing
        if meta or waiting is None:
            waiting = self._writing(meta)
        frame = self._framing.encode(item)
        write = bind(self._write, meta) if meta else self._write
        try:
            waiting.try_now(write, frame)
        except OSError:
            await waiting.attempt(write, frame)  # which waits, or words the error
        self._sent += 1
        if self._unfinished is not None:
            await self._finish(self._unfinished)

    def _put(self, item: Buffer, **meta: Any) -> None:
        self._put_frame(self._framing.encode(item), **meta)

    def _put_frame(self, frame: Frame, **meta: Any) -> None:
        self._write(frame, **meta)
        self._sent += 1
        if self._unfinished is not None:
            self._abandon(self._unfinished)

    async def send_many(self, items: Iterable[Buffer], **meta: Any) -> None:
        self._writing(meta)
        for frame, frames in self._batches(items):
            await self._send_frames(frame, frames)

    async def _send_frames(self, frame: Frame, frames: Sequence[Frame]) -> None:
        await self._writing({}).attempt(self._write, frame, frames)
        self._sent += len(frames)
        if self._unfinished is not None:
            await self._finish(self._unfinished)

    def _batches(self, items: Iterable[Buffer]) -> Iterator[tuple[Frame, Sequence[Frame]]]:
        """As many frames as one system call should take, in one piece and singly. A refused item's error comes last."""
        encode = self._framing.encode
        frames: list[bytes] = []
        total = 0
        refused = None
        try:
            for item in items:
                frame = encode(item)
                if not isinstance(frame, bytes):
                    if frames:
                        yield b"".join(frames), frames
                        frames, total = [], 0
                    yield frame, (frame,)
                    continue
                frames.append(frame)
                total += len(frame)
                if total >= _BATCH_SIZE:
                    yield b"".join(frames), frames
                    frames, total = [], 0
        except Exception as error:  # noqa: BLE001 - the items before the refused one go first, then it is raised
            refused = error
        if frames:
            yield b"".join(frames), frames
        if refused is not None:
            raise refused

    def _write(self, frame: Frame, frames: Sequence[Frame] = (), fds: Sequence[int] = ()) -> None:
        """Start a frame, or several: all of it goes to the kernel or to `_unfinished`, or BlockingIOError and nothing does."""
        if self._output_ended:
            raise anyio.ClosedResourceError
        if self._unfinished is not None:
            self._flush(self._unfinished)
        sent = self._push_beside(frame, fds) if fds else self._push(frame)
        self._bytes_sent += sent
        if sent < size_of(frame):
            self._unfinished = Unfinished(frame, frames or (frame,))
            self._unfinished.advance(sent)

    def _flush(self, unfinished: Unfinished) -> None:
        """Write until `unfinished` is through; nothing to do if another task's write did that already."""
        while self._unfinished is unfinished:
            if not unfinished.views:
                self._unfinished = None
                if self._outgoing is not None:
                    self._outgoing.wake_all()  # its sender is done, though another task may have written the rest
                return
            sent = self._push(unfinished.views)
            self._bytes_sent += sent
            unfinished.advance(sent)

    async def _finish(self, unfinished: Unfinished) -> None:
        """`send` returns when the kernel holds all of the message."""
        waiting = self._writing({})
        waiting.in_long_message = True
        try:
            await waiting.attempt(self._flush, unfinished)
        except BaseException:
            if self._unfinished is unfinished:
                self._abandon(unfinished)
            raise
        finally:
            waiting.in_long_message = False

    def _abandon(self, unfinished: Unfinished) -> None:
        """The sender does not wait any longer: finish the message that has begun, and release the sender's buffers."""
        self._sent -= unfinished.cut()
        if not unfinished.views:
            self._flush(unfinished)
        else:
            self._finish_in_background(unfinished)

    def _finish_in_background(self, unfinished: Unfinished) -> None:
        if backend.running() and not self._writer.closed:
            self._finisher = backend.current()
            backend.start_soon(self._finish_alone, unfinished)

    async def _finish_alone(self, unfinished: Unfinished) -> None:
        with suppress(*GONE):  # the next send meets the same error, and tells its caller
            await self._writing({}).attempt(self._flush, unfinished)
        self._finisher = None

    def _reading(self, selection: Mapping[str, Any]) -> Waiter:
        unfinished = self._unfinished
        if unfinished is not None and self._finisher is not None and backend.current() is not self._finisher:
            self._finish_in_background(unfinished)  # the loop that was at it is over
        return super()._reading(selection)

    async def send_eof(self) -> None:
        waiting = self._writing({})
        if self._unfinished is not None:
            await waiting.attempt(self._flush, self._unfinished)
        if not self._output_ended:
            await waiting.attempt(self._end_writing)

    def _end_writing(self) -> None:
        self._writer.check()
        self._writer.end_writing()
        self._output_ended = True

    def close(self) -> None:
        self._finish_now()
        super().close()

    def _finish_now(self) -> None:
        """About to close: a last try to send what had begun."""
        if self._unfinished is not None:
            with suppress(anyio.WouldBlock, *GONE):  # the peer then sees a message cut short
                self._writing({}).attempt_nowait(self._flush, self._unfinished)


def _pieces(frame: Frame | Sequence[memoryview]) -> Sequence[Buffer]:
    return (frame,) if isinstance(frame, bytes) else frame


def size_of(frame: Frame) -> int:
    """Bytes of the frame."""
    return len(frame) if isinstance(frame, bytes) else sum(map(len, frame))
