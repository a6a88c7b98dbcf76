"""The reading end of a ring (`ring`)."""

from __future__ import annotations

from typing import NoReturn

import anyio

from aipc.exceptions import MessageTooLarge, ProtocolError

from .framing import Body
from .ring import ALWAYS, HEADER, LENGTH, PART, SKIP, Barriers, End, Peer, in_c

_BATCH = 1024  # messages that are taken at once before the producer hears of the room
_BATCH_BYTES = 256 * 1024
"""Bytes that are taken at once: malloc gives more back to the kernel, and then each call meets fresh pages."""
_PARTS, _BYTES = 64, 8 * 1024 * 1024  # of a message that are taken at once: then the loop turns


class Consumer(End):
    """The end that reads. `limit`: the longest message, bytes."""

    __slots__ = ("_body", "_failed", "_limit", "_peeked", "_shown")

    position: int

    def __init__(self, direction: int, peer: Peer, barriers: Barriers, limit: int) -> None:
        super().__init__(direction, peer, barriers)
        self._limit = limit = min(limit, LENGTH)
        self._plain = limit  # the longest record that is a whole message; -1 when none is
        self._body: Body | None = None  # a message in parts, under way
        self._failed: Exception | None = None
        self._peeked: bytes | None = None  # a message in parts that `peek` has put together
        self._shown = -1  # the size of the message that `show` has shown

    def watch(self, looks: int) -> bool:
        words, published, position = self._words, self._published, self.position
        while looks:  # faster than any(), when it counts: what is looked for is there
            if words[published] != position:
                return True
            looks -= 1
        return False

    def sleep(self) -> bool:
        return self._shown < 0 and super().sleep()  # else `free` is waited for, not the peer

    def take(self) -> bytes:
        """The next message. BlockingIOError if there is none, EndOfStream if there will be none."""
        words = self._words
        position = self.position
        there = words[self._published] - position
        if self._fence is not None:
            self._fence()
        offset = position & self._mask
        start = self._base + offset
        size = words[start >> 3]
        room = (size + 15) & -8
        if room > there or size > self._plain or offset + room > self._capacity:
            return self._take_other()
        start += 8
        data: bytes = self._memory[start : start + size]
        if self._fence is not None:
            self._fence()
        self.position = words[self._consumed] = position + room
        if words[self._writer_sleeps]:
            self._wake(self._writer_sleeps)
        return data

    def take_many(self, most: int | None) -> list[bytes]:
        """Messages that are there, at least one; at most `most`. BlockingIOError, EndOfStream as `take`."""
        messages = [self.take()]
        most = _BATCH if most is None else min(most, _BATCH)
        self.take_more(messages, most, _BATCH_BYTES)
        return messages

    def take_more(self, messages: list[bytes], most: int, most_bytes: int) -> None:
        """Append messages that are there, without a wait, until there are `most`, or this call has taken so many bytes."""
        words, memory, base, mask, plain = self._words, self._memory, self._base, self._mask, self._plain
        position = self.position
        until = min(words[self._published], position + min(self._capacity, most_bytes))
        if self._fence is not None:
            self._fence()
        while len(messages) < most:
            offset = position & mask
            start = base + offset
            size = words[start >> 3]
            room = (size + 15) & -8
            if position + room > until or size > plain or offset + room > self._capacity:
                break  # nothing, or what only `take` understands: the next call meets it
            start += 8
            messages.append(memory[start : start + size])
            position += room
        if position != self.position:
            self._consume(position)

    def peek(self) -> bytes:
        """What the next `take` gives, left there for it. Errors as `take`."""
        if self._peeked is not None:
            return self._peeked
        start, size, part = self._next()
        if not part and self._body is None:
            data: bytes = self._memory[start : start + size]
            return data
        self._peeked = self._take_other()
        self._plain = -1
        return self._peeked

    def show(self) -> tuple[int, int] | None:
        """The next message's payload in the memory: first and last place; it stays until `free`. None if it comes in parts."""
        if self._peeked is not None:
            return None
        start, size, part = self._next()
        if part or self._body is not None:
            return None
        self._shown, self._plain = size, -1
        return start, start + size

    def free(self) -> None:
        """Free the shown message, if there is one."""
        if self._shown < 0:
            return
        size, self._shown, self._plain = self._shown, -1, self._limit
        self._consume(self.position + ((size + 15) & -8))

    def close(self) -> None:
        if self._memory is not None:
            self._words[self._reader_sleeps] = ALWAYS  # waking fails, and tells the peer that no process reads
        self._peeked = None
        super().close()

    def _take_other(self) -> bytes:
        """A message in parts, one behind a skip, or a bad one; or none."""
        if self._peeked is not None:
            peeked, self._peeked, self._plain = self._peeked, None, self._limit
            return peeked
        until = self.position + _BYTES
        for _ in range(_PARTS):
            start, size, part = self._next()
            if self._body is None and not part:
                data: bytes = self._memory[start : start + size]
            else:
                self._continue(start, size, part)
                data = b"" if part else self._complete()
            self._consume(self.position + ((size + 15) & -8))
            if not part:
                return data
            if self.position >= until:
                break
        raise BlockingIOError  # there will be more to do at once

    def _next(self) -> tuple[int, int, bool]:
        """The next record's payload: its place, its size, whether it is a part before the last. Skips are skipped. Checked."""
        while True:
            if self._failed is not None:
                raise self._failed.with_traceback(None)
            if self._shown >= 0:
                raise BlockingIOError
            there = self._words[self._published] - self.position
            if not there:
                self._look_around()
                continue
            if self._fence is not None:
                self._fence()
            offset = self.position & self._mask
            header = self._words[self._base + offset >> 3]
            behind = self._capacity - offset
            if header == SKIP and there % 8 == 0 and behind < there <= self._capacity:
                self._consume(self.position + behind)
                continue
            size = header & ~PART
            room = (size + 15) & -8
            if there % 8 or there > self._capacity or room > min(there, behind) or size > LENGTH:
                self._fail(ProtocolError(f"the peer published {there:,} bytes, and a record of {header:#x} in them"))
            if size > self._limit and header == size:
                self._fail(_too_large(size, self._limit))
            return self._base + offset + HEADER, size, header != size

    def _continue(self, start: int, size: int, part: bool) -> None:
        """One more part of a message: how much is missing is said in each, and must be so."""
        first, end = start + 8 * part, start + size
        rest = size
        if part:
            rest = self._words[start >> 3] if first < end else 0
        body = self._body
        if part == (rest <= end - first) or rest != (rest if body is None else body.missing):
            self._fail(ProtocolError(f"the peer sent {size:,} bytes of a message of which it said that {rest:,} are left"))
        with memoryview(self._memory)[first:end] as view:
            if body is None:
                if rest > self._limit:
                    self._fail(_too_large(rest, self._limit))
                self._body, self._plain = Body(rest, view), -1
            else:
                with body.space as space:
                    space[: len(view)] = view
                body.missing -= len(view)

    def _complete(self) -> bytes:
        body, self._body, self._plain = self._body, None, self._limit
        assert body is not None
        return body.message()

    def _consume(self, position: int) -> None:
        if self._fence is not None:
            self._fence()
        self.position = self._words[self._consumed] = position
        if self._words[self._writer_sleeps]:
            self._wake(self._writer_sleeps)

    def _fail(self, error: Exception) -> NoReturn:
        self._failed, self._plain, self._body = error, -1, None
        raise error

    def _look_around(self) -> None:
        """Nothing is there: raise BlockingIOError or EndOfStream, unless something is there by now."""
        if self._memory is None:
            self._peer.meet()
        over = self._peer.drain_doorbell() or bool(self._words[self._ended])
        if self._fence is not None:
            self._fence()
        if self.watch(1):  # looked at last: what the peer published before it went is still to be taken
            return
        if not over:
            raise BlockingIOError
        if self._body is not None:
            self._fail(ProtocolError("the peer closed in the middle of a message"))
        raise anyio.EndOfStream("the other side sends no more: it closed, or called send_eof()")


in_c(Consumer, "watch", "take", "take_more")


def _too_large(size: int, limit: int) -> MessageTooLarge:
    return MessageTooLarge(f"the peer sends {size:,} bytes; max_message_size is {limit:,}")
