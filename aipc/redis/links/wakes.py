"""How tasks wait for something on a server: they try, register there, and park; the server publishes to whom it has something.

A wake-up that is lost or one too many costs only time. Whoever has no use for one passes it on. It may carry news, which saves
asking for them; if those must not be lost, a `Receiver` gets them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Protocol, TypeVar

from aipc._io.loop import backend
from aipc._io.loop.wait_queue import WaitQueue

from ..errors import explain, lasting
from ..scripts import call, pack
from ..server import Server
from .connection import Connection
from .line import PERIOD, SILENCE, Line

Result = TypeVar("Result")

_LONGEST_WAIT = 5.0
"""Seconds after which a waiter looks again, though nobody woke it; a second more at most. One timer serves all waiters of a loop."""


class Receiver(Protocol):
    """Who has a use for what the wake-ups of one place carry."""

    def received(self, news: bytes) -> None:
        """A wake-up came; empty if it carried nothing."""

    def renew(self) -> None:
        """Some may be lost, and answers of the server too: a connection was."""


class WaitingPlace(WaitQueue):
    """Tasks of this loop that wait for one thing on the server, `name` there. Wakes the one that has waited longest."""

    __slots__ = ("_deadline", "_parked_at", "_timer", "_wakes", "name", "news", "rung", "waiting")

    def __init__(self, wakes: Wakes, name: str) -> None:
        super().__init__()
        self.name: str = name
        self.waiting: int = 0
        self.rung: bool = False  # a wake-up that no task has taken yet
        self.news: str = ""  # what the last wake-up carried
        self._wakes = wakes
        self._timer: backend.Timer | None = None
        self._deadline = 0.0
        self._parked_at = monotonic()

    async def attempt(self, try_: Callable[[bool], Awaitable[Result | None]], check: Callable[[], None]) -> Result:
        """`await try_(registers)` until it gives something; `registers`: have the server wake this place if there is nothing.

        `check` raises if waiting makes no sense any more. Cancelled: a wake-up that was meant for this task goes to another one.
        """
        woken = False
        self.waiting += 1
        try:
            while True:
                check()
                self.rung = False
                registers = self._wakes.listening
                result = await try_(registers)
                if result is not None:
                    return result
                if not registers:
                    await self._wakes.subscribed()
                elif not self.rung:
                    check()
                    woken = True
                    await self._park()
        except BaseException:
            if woken and self.waiting == 1:
                self._wakes.pass_on(self.name)
            raise
        finally:
            self.waiting -= 1
            self.wake()  # what there is may be enough for the next task
            if not self.waiting:
                self._wakes.leave(self)
                if self._timer is not None:
                    self._timer.cancel()

    async def _park(self) -> None:
        self._parked_at = monotonic()
        await self.queue()

    def wake_in(self, seconds: float) -> None:
        """Wake all after so many seconds at the latest."""
        if seconds >= _LONGEST_WAIT + PERIOD:  # sooner than that, nobody else may wake them
            return
        deadline = monotonic() + seconds
        if self._timer is not None:
            if self._deadline <= deadline:
                return
            self._timer.cancel()
        self._deadline = deadline
        self._timer = backend.call_later(self._wakes.loop, max(seconds, 0.0), self._timed)

    def _timed(self) -> None:
        self._timer = None
        self.ring(everybody=True)

    def wake_if_late(self, now: float) -> None:
        """Wake all if nobody was woken for long."""
        if now - self._parked_at >= _LONGEST_WAIT:
            self.ring(everybody=True)

    def ring(self, *, everybody: bool = False) -> None:
        """Let the first task, or all, try again."""
        self.rung = True
        if everybody:
            self.wake_all()
        else:
            self.wake()


class Wakes(Line):
    """The connection by which the server wakes this process and loop, which is called `name` there."""

    def __init__(self, server: Server, name: str, tell: Callable[[bytes], None]) -> None:
        super().__init__(server)
        self._name = name
        self._tell = tell
        self._places: dict[str, WaitingPlace] = {}
        self.receivers: dict[str, Receiver] = {}
        self.listening: bool = False
        """Whether the server can wake us now."""
        self._ready = WaitQueue()
        self._pinged = False
        self._error: Exception | None = None

    def place(self, name: str) -> WaitingPlace:
        """Where tasks of this loop wait for `name`."""
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = WaitingPlace(self, name)
            self.watch()
        return found

    def ring(self, name: str) -> None:
        """Let all try again that wait for `name`, if any do. Also when the loop is over."""
        place = self._places.get(name)
        if place is not None:
            place.ring(everybody=True)

    def ring_one(self, name: str) -> bool:
        """Let the first task try again that waits for `name`; whether one does."""
        place = self._places.get(name)
        if place is not None:
            place.ring()
        return place is not None

    def renew(self) -> None:
        """Tell all receivers that something may be lost."""
        for receiver in tuple(self.receivers.values()):
            receiver.renew()

    def leave(self, place: WaitingPlace) -> None:
        """Nobody waits there any more."""
        if self._places.get(place.name) is place:
            del self._places[place.name]

    def pass_on(self, name: str) -> None:
        """A wake-up came for nobody: another process may have a use for it, if it did not mean one of our tasks."""
        if not self.closed and not name.startswith(f"{self._name}:"):
            self._tell(call("pass_on", (name,)))

    async def subscribed(self) -> None:
        """Wait until the server can wake us. Cancelled: nothing happened."""
        self.start()
        if not self.listening and not self.closed:
            self._error = None
            await self._ready.queue()
            if self._error is not None:
                raise self._error.with_traceback(None)

    def follow(self, url: str) -> None:
        """The server is there now: listen there."""
        if self.connection is not None and self.connection.url != url:
            self.connection.close()

    def _wanted(self) -> bool:
        return bool(self._places)

    def _connected(self, connection: Connection) -> None:
        self._pinged = False
        self.write(pack("SUBSCRIBE", f"aipc:{self._name}"))

    def _received(self, replies: list[Any]) -> None:
        self._useful = True
        self._pinged = False
        for reply in replies:
            if isinstance(reply, Exception):
                raise explain(reply, self.server.url)
            kind, *rest = reply
            if kind == b"message":
                self._ring(rest[1])
            elif kind == b"subscribe":
                self.listening = True
                self.renew()
                self._ready.wake_all()
                self._ring_all()
        self.watch()

    def _ring(self, message: bytes) -> None:
        place, _, news = message.partition(b"\0")
        name = place.decode(errors="surrogateescape")
        if name in self.receivers:
            self.receivers[name].received(news)
        elif name in self._places:
            self._places[name].news = news.decode(errors="surrogateescape")
            self._places[name].ring()
        elif not news:
            self.pass_on(name)

    def _ring_all(self) -> None:
        """What came while there was no connection is lost."""
        for place in tuple(self._places.values()):
            place.ring(everybody=True)

    def _lost(self) -> None:
        self.listening = False
        self._ring_all()

    def _failed(self, error: Exception, seconds: float) -> None:
        self._error = error if lasting(error) else None  # any other one, the command connection tells
        self._ready.wake_all()

    def _is_silent(self) -> bool:
        if not self._places:
            return False
        self.watch()
        now = monotonic()
        for place in tuple(self._places.values()):
            place.wake_if_late(now)
        if now - self._heard < SILENCE:
            return False
        if not self._pinged:
            self._pinged = self.write(pack("PING"))
            self._heard = monotonic()
            return False
        return True

    def close(self) -> None:
        super().close()
        self._ready.wake_all()
        self._ring_all()
