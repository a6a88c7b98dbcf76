"""The sending half of the channels that send frames through something that may take only a part: a stream of bytes, or a ring.

A frame is tried at once. If only a part of it is taken, the channel remembers the rest as `_unfinished`, and every later write
finishes that first, so that frames never tear.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, cast

import anyio

from aipc._io.handle import FileHandle
from aipc._io.loop import backend
from aipc._io.waiter import Waiter
from aipc._texts.shown import Fact
from aipc.abc import Buffer, StreamChannel
from aipc.exceptions import AipcError
from aipc.wire.framing import Frame, Framing

from .base import TransportChannel, bind

_BATCH_SIZE = 128 * 1024
GONE: tuple[type[Exception], ...] = (AipcError, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)


class Unfinished:
    """Frames of which the kernel took only a part: no other frame may start before they are through."""

    __slots__ = ("_done", "_frames", "views")

    def __init__(self, frame: Frame, frames: Sequence[Frame]) -> None:
        self.views: list[memoryview] = [memoryview(piece) for piece in pieces(frame) if len(piece)]
        self._frames: Any = frames if isinstance(frames, _EncodedLater) else list(frames)
        self._done = 0

    def add(self, frame: bytes) -> None:
        """Put one more frame behind these, which were not encoded in one piece."""
        if frame:  # to write nothing is no progress
            self.views.append(memoryview(frame))
        self._frames.append(frame)

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


class _EncodedLater(Sequence[Frame]):
    """The frames of messages that were encoded in one piece: made again if one of them is needed, after a write in part."""

    __slots__ = ("_framing", "_items")

    def __init__(self, framing: Framing, items: Sequence[Buffer]) -> None:
        self._framing = framing
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        chosen = self._items[index]
        return [*map(self._framing.encode, chosen)] if isinstance(index, slice) else self._framing.encode(chosen)


class FrameSender(TransportChannel, StreamChannel):
    """Sends frames to `writer`, by `_push`; None if the channel only receives."""

    __slots__ = ("_finisher", "_framing", "_output_ended", "_unfinished", "_writer")

    def __init__(self, incoming: Waiter | None, writer: FileHandle | None, framing: Framing) -> None:
        super().__init__(incoming)
        self._writer = cast(FileHandle, writer)  # never None where it is used: `_writing` has refused
        self._framing = framing
        self._output_ended = False
        self._unfinished: Unfinished | None = None
        self._finisher: object = None  # the loop in which a task finishes what its sender gave up

    @abstractmethod
    def _push(self, frame: Frame | Sequence[memoryview]) -> int:
        """One non-blocking write: how many bytes of the frame were taken, at least one."""

    def _push_beside(self, frame: Frame, fds: Sequence[int]) -> int:
        """As `_push`, with descriptors beside the frame's first byte, where the mechanism has that."""
        raise NotImplementedError

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
        if isinstance(items, list | tuple):
            items = yield from self._quick_batches(list(items))
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

    def _quick_batches(self, items: list[Buffer]) -> Generator[tuple[Frame, Sequence[Frame]], None, list[Buffer]]:
        """As `_batches`, but gives up at an item that needs Python code: the items from there on are left."""
        first = 0
        while first < len(items):
            frame, end = self._framing.join(items, first, _BATCH_SIZE)
            if end == first:
                break
            yield frame, _EncodedLater(self._framing, items[first:end])
            first = end
        return items[first:]

    def _write(self, frame: Frame, frames: Sequence[Frame] = (), fds: Sequence[int] = ()) -> None:
        """Start a frame, or several: all of it goes to the kernel or to `_unfinished`, or BlockingIOError and nothing does."""
        if self._output_ended:
            raise anyio.ClosedResourceError
        if self._unfinished is not None:
            self._flush(self._unfinished)
        sent = self._push_beside(frame, fds) if fds else self._push(frame)
        self._bytes_sent += sent
        if sent < (len(frame) if type(frame) is bytes else size_of(frame)):  # mostly bytes: a call takes longer than to look
            self._keep_rest(frame, sent, frames)

    def _keep_rest(self, frame: Frame, sent: int, frames: Sequence[Frame] = ()) -> Unfinished:
        """The kernel took only so many bytes of it."""
        self._unfinished = Unfinished(frame, frames or (frame,))
        self._unfinished.advance(sent)
        return self._unfinished

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

    def _facts(self) -> Iterator[Fact]:
        yield from super()._facts()
        yield "the rest of a message is still to be sent" if self._unfinished is not None else ""
        yield "this side has ended its stream" if self._output_ended else ""


def pieces(frame: Frame | Sequence[memoryview]) -> Sequence[Buffer]:
    """The buffers of the frame."""
    return (frame,) if isinstance(frame, bytes) else frame


def size_of(frame: Frame) -> int:
    """Bytes of the frame."""
    return len(frame) if isinstance(frame, bytes) else sum(map(len, frame))
