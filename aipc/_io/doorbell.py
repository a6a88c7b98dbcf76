"""Doorbells: a task that makes an object available wakes the loops that poll for it, in all processes of the same user.

While no loop waits, `notify` reads 64 bytes of memory and does nothing else. `_sys.doorbell.table` has the layout.
"""

from __future__ import annotations

import logging
from typing import Protocol

from aipc._sys import membarrier
from aipc._sys.doorbell.member import Member, member
from aipc._sys.doorbell.table import NOBODY, ROWS, WAITERS, Call, Line, calls, tag_of

from .loop.fd_callback import FdCallback
from .loop.reactor import Reactor

_NO_BOARD, _CLOSED = Line(), Line()
_logger = logging.getLogger("aipc")


class Subscriber(Protocol):
    """Has tasks that wait for an object."""

    def on_notify(self, call: Call) -> bool:
        """The object may be available. True: a task was woken, and `pass_on(call)` follows if it could not use it."""


class Doorbell:
    """The doorbell of one object. The process enters the table with its first one, some 0.4 ms, so that no message waits for that."""

    __slots__ = ("_board", "_last", "_line", "_member", "row", "tag")

    def __init__(self, name: str) -> None:
        self.tag: int = tag_of(name)
        self.row: int = self.tag % ROWS
        self._line = _CLOSED  # until it has entered
        self._member: Member = member()
        self._board = self._member.enter()
        self._line = _NO_BOARD if self._board is None else self._board.line(self.row)
        self._last = 0

    def notify(self, most: int = WAITERS) -> None:
        """Call `most` of the loops that wait for the object, in turn. A loop that does not need the object passes the call on."""
        if self._line.raw != NOBODY and self._board is not None:
            self._last = self._board.call(self.tag, self._last, most)

    def others_wait(self, listener: DoorbellListener | None, subscriber: Subscriber) -> bool | None:
        """Whether anybody but `subscriber`, which may listen at `listener`, waits for the object. None: there is no board."""
        if self._board is None:
            return None
        line = bytearray(self._line.raw)
        if listener is not None:
            line[listener.column] = listener.serves_others(self, subscriber)
        return any(line)

    def close(self) -> None:
        """Release the table. No loop is called any more."""
        line, self._line, self._board = self._line, _CLOSED, None
        if line is not _CLOSED:
            self._member.leave()

    def __del__(self) -> None:
        self.close()  # its object was dropped, or not finished


class DoorbellListener:
    """Receives the calls for this loop. OSError if all columns of the table are taken, or if there is no table."""

    __slots__ = ("_board", "_column", "_member", "_source", "_subscribers")

    def __init__(self, reactor: Reactor) -> None:
        self._member = member()
        self._board = self._member.enter()
        try:
            self._column = self._member.claim()
            try:
                self._source = FdCallback(reactor, self._column.fifo, self._fired)
            except BaseException:
                self._member.give_back(self._column)
                raise
        except BaseException:
            self._member.leave()
            raise
        self._subscribers: dict[int, dict[int, set[Subscriber]]] = {}  # by row, and by tag

    @property
    def column(self) -> int:
        """This loop's number on the board."""
        return self._column.waiter

    def listen(self, doorbell: Doorbell, subscriber: Subscriber) -> None:
        """Let `subscriber.on_notify` be called for the object, until `leave`; then try once more: it may have come before."""
        self._subscribers.setdefault(doorbell.row, {}).setdefault(doorbell.tag, set()).add(subscriber)
        self.renew(doorbell)
        membarrier.full()

    def renew(self, doorbell: Doorbell) -> None:
        """Show again that this loop waits for the object, whatever another process has stored in its place."""
        self._mark(doorbell.row, True)

    def serves_others(self, doorbell: Doorbell, subscriber: Subscriber) -> bool:
        """Whether another subscriber of this loop waits for the object."""
        return bool(self._subscribers.get(doorbell.row, {}).get(doorbell.tag, set()) - {subscriber})

    def leave(self, doorbell: Doorbell, subscriber: Subscriber) -> None:
        """It does not listen any more."""
        tags = self._subscribers.get(doorbell.row, {})
        subscribers = tags.get(doorbell.tag, set())
        subscribers.discard(subscriber)
        if not subscribers:
            tags.pop(doorbell.tag, None)
        self._clear_if_unused(doorbell.row)

    def _clear_if_unused(self, row: int) -> None:
        if not self._subscribers.get(row):
            self._subscribers.pop(row, None)
            self._mark(row, False)

    def _mark(self, row: int, waits: bool) -> None:
        if self._board is not None and self._member.owns(self._column):
            self._board.mark(row, self._column.waiter, waits)

    def _fired(self) -> None:
        for call in calls(self._column):
            row = call.tag % ROWS
            subscribers = tuple(self._subscribers.get(row, {}).get(call.tag, ()))
            woken = [_told(subscriber, call) for subscriber in subscribers]
            self._clear_if_unused(row)
            if not any(woken):
                self.pass_on(call)

    def pass_on(self, call: Call) -> None:
        """Call the next loop behind this one that waits for an object of the row, up to `call.until`."""
        if self._board is not None and self._member.owns(self._column):
            self._board.call(call.tag, self._column.waiter, 1, call.until)

    def close(self) -> None:
        """Release the column and the table. The loop may be over."""
        self._source.close()
        self._member.give_back(self._column)
        self._member.leave()


def _told(subscriber: Subscriber, call: Call) -> bool:
    try:
        return subscriber.on_notify(call)
    except Exception:
        _logger.exception("a waiter failed when its doorbell rang")
        return False
