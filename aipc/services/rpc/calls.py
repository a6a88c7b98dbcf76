"""The calls that this side makes on one connection: each gets its own answer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import anyio
import msgspec

from aipc._io.loop.wait_queue import WaitQueue
from aipc.exceptions import ProtocolError

from .errors import ConnectionLost, DeadlineExceeded
from .fds import close_all
from .outbox import Outbox
from .wires import extension
from .wires.base import Answer, Wire

_MOST_CANCELS = 1_000
"""Messages that may wait to be sent. Over this, a peer that does not read is not told of cancellations."""
_SLOW_CLOCK = 0.1
"""Seconds by which the peer may notice a deadline before this side does."""
_IDS = 2**32  # MessagePack-RPC: a 32-bit number


class Call(WaitQueue):
    """One call, until it is answered. Its caller waits here."""

    __slots__ = ("answer", "credit", "deadline", "error", "fds", "id", "items", "method")

    def __init__(self, id: int, method: str, credit: int) -> None:
        super().__init__()
        self.id: int = id
        self.method: str = method
        self.credit: int = credit  # items that may come; 0: not a stream
        self.deadline: float = math.inf
        self.items: deque[msgspec.Raw] = deque()
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.fds: tuple[int, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more can come."""
        return self.answer is not None or self.error is not None

    async def result(self) -> msgspec.Raw | None:
        """Wait for the answer. Cancelled: the answer was not consumed."""
        while not self.over:
            await self.queue()
        if self.answer is None:
            assert self.error is not None
            raise self.error
        if self.answer.error is not None:
            if isinstance(self.answer.error, DeadlineExceeded) and self.deadline - anyio.current_time() < _SLOW_CLOCK:
                # It is the caller's own deadline: let that end this, as without a peer. A loop's timer may be late.
                await anyio.sleep_until(self.deadline + _SLOW_CLOCK)
            raise self.answer.error
        return self.answer.result


class Calls:
    """Every unanswered call of one connection."""

    def __init__(self, wire: Wire, outbox: Outbox) -> None:
        self._wire = wire
        self._outbox = outbox
        self._pending: dict[int, Call] = {}
        self._abandoned: set[int] = set()  # they take a place at the peer until it answers
        self._next_id = 0
        self._window: float = extension.FIRST_WINDOW
        self._learnt = False
        self._places = WaitQueue()
        self._lost: Exception | None = None
        self._told_fds = self._may_send_fds = False
        self._agreement = WaitQueue()

    @property
    def unanswered(self) -> int:
        """The number of calls that wait for an answer here."""
        return len(self._pending)

    async def open(self, method: str, params: Any, fds: Sequence[int] = (), *, credit: int = 0) -> Call:
        """Send a call. Errors as `Channel.send`, and ConnectionLost. Cancelled: the peer is told, or it was not sent."""
        if self._lost is not None or len(self._pending) + len(self._abandoned) >= self._window:
            await self._place()
        id = self._id()
        data = self._wire.request(id, method, params)
        call = self._pending[id] = Call(id, method, credit)
        sent = False
        try:
            call.deadline = anyio.current_effective_deadline()
            if credit or call.deadline != math.inf:
                await self._outbox.send(self._preamble(call))
            letter = self._outbox.post(data, {"fds": fds} if fds else {}, more=len(self._pending) > 1)
            sent = True
            if letter is not None:
                try:
                    await letter.sent()
                except BaseException:
                    sent = not letter.withdraw()
                    raise
        except BaseException as error:
            self.abandon(call, sent=sent)
            if isinstance(error, anyio.BrokenResourceError):
                raise _loss(error) from error
            raise
        return call

    def _preamble(self, call: Call) -> bytes:
        seconds = None if call.deadline == math.inf else max(0.0, call.deadline - anyio.current_time())
        return self._wire.notification(extension.REQUEST, (call.id, seconds, call.credit or None))

    async def _place(self) -> None:
        """Wait until the peer can take one more call."""
        while self._lost is None and len(self._pending) + len(self._abandoned) >= self._window:
            try:
                await self._places.queue()
            except BaseException:
                self._places.wake()  # perhaps it was this task's turn
                raise
        if self._lost is not None:
            self._places.wake()
            raise _loss(self._lost)

    def _id(self) -> int:
        while True:
            id = self._next_id
            self._next_id = (id + 1) % _IDS
            if id not in self._pending and id not in self._abandoned:
                return id

    def abandon(self, call: Call, *, sent: bool = True) -> None:
        """Abandon a call. If it was sent, the peer is told, and keeps a place for it until it answers."""
        close_all(call.fds)
        call.fds = ()
        if self._pending.pop(call.id, None) is None:
            return
        if sent and self._lost is None:
            if self._learnt and self._window != math.inf:
                self._abandoned.add(call.id)
            self._tell(extension.cancel(self._wire, call.id))
        self._places.wake()

    def _tell(self, data: bytes) -> None:
        if self._outbox.waiting < _MOST_CANCELS:
            try:
                self._outbox.post(data)
            except Exception as error:  # noqa: BLE001 - the reader raises it, too
                self.fail(error)

    async def agree_on_fds(self) -> None:
        """Wait until both sides accept descriptors: reading without them is twice as fast. Cancelled: nothing is lost."""
        self.tell_fds()
        while not self._may_send_fds:
            if self._lost is not None:
                raise _loss(self._lost)
            await self._agreement.queue()

    def tell_fds(self) -> None:
        """Tell the peer, once, that this side accepts descriptors."""
        if not self._told_fds:
            self._told_fds = True
            self._tell(self._wire.notification(extension.DESCRIPTORS, ()))

    def fds_agreed(self) -> None:
        """Note that the other side accepts descriptors."""
        self._may_send_fds = True
        self._agreement.wake_all()

    def allow(self, call: Call, count: int) -> None:
        """Allow the peer to send that many more items."""
        if not call.over:
            call.credit += count
            self._tell(self._wire.notification(extension.CREDIT, (call.id, count)))

    def answered(self, answer: Answer, fds: tuple[int, ...]) -> None:
        """Store an answer. An answer that no task waits for is dropped."""
        if not self._learnt:
            self._learn(math.inf)
        call = self._pending.pop(answer.id, None) if isinstance(answer.id, int) else None
        if call is None:
            close_all(fds)
            self._abandoned.discard(answer.id)
        else:
            call.answer = answer
            call.fds = fds
            call.wake()
        self._places.wake()

    def came(self, id: Any, item: msgspec.Raw) -> None:
        """Store an item of a stream. ProtocolError for more items than were asked for."""
        call = self._pending.get(id)
        if call is None or not isinstance(id, int):
            return
        if call.credit <= 0:
            raise ProtocolError(f"more items than were asked for, of the stream {call.method!r}")
        call.credit -= 1
        call.items.append(item)
        call.wake()

    def window(self, count: int) -> None:
        """Note how many calls the peer accepts at once."""
        self._learn(count)

    def _learn(self, window: float) -> None:
        self._learnt = True
        self._window = window
        self._places.wake_all()

    def fail(self, error: Exception) -> None:
        """Fail every unanswered call: the connection is lost."""
        if self._lost is not None:
            return
        self._lost = error
        for call in self._pending.values():
            call.error = _loss(error, f"{call.method}: ", " before the answer: the method may have run, or not")
            call.wake()
        self._pending.clear()
        self._places.wake_all()
        self._agreement.wake_all()


def _loss(lost: Exception, start: str = "", end: str = ": nothing was sent") -> Exception:
    """Return the error for a lost connection, unless it was closed here."""
    if isinstance(lost, anyio.ClosedResourceError):
        return anyio.ClosedResourceError()
    error = ConnectionLost(f"{start}the connection was lost ({str(lost) or type(lost).__name__}){end}")
    error.__cause__ = lost
    return error
