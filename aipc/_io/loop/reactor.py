"""What aipc has in one event loop: an epoll set, the spin, and the poll timer with its doorbell.

The set has all descriptors that tasks of the loop wait for, edge-triggered, and hangs in the loop as one reader: see
docs/explanation/waiting.md. A registration stays between waits. It goes when it fires twice and nobody reads.

Edges are safe because a task always tries before it parks, and awaits nothing in between.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING, Protocol, cast

from aipc._io import fork
from aipc._sys.crowd import Crowd
from aipc._sys.native import native

from . import backend
from .spin import Spin

if TYPE_CHECKING:
    import trio

READ, WRITE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLPRI, select.EPOLLOUT
ENDS_READS = select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR | select.EPOLLPRI  # before all is read: also urgent data
_MOST_EVENTS = 256
_logger = logging.getLogger("aipc")


class Watcher(Protocol):
    """Something that wants to know that a descriptor became ready."""

    def fired(self, event: int) -> None:
        """It did; `event` has the bits of epoll_ctl(2)."""


class LoopResource(Protocol):
    """What else belongs to a loop."""

    def close(self) -> None:
        """Give it back: the loop is over."""

    def forget(self) -> None:
        """Close its descriptors, and nothing else: this is a forked child."""


class Reactor:
    """What aipc has in one loop, which `loop` stands for (`backend.current`)."""

    __slots__ = ("_epoll", "_readers", "_writers", "crowd", "loop", "others_ready", "poll_timer", "reads_ahead", "spin", "turn")

    def __init__(self, loop: object) -> None:
        self.loop: object = loop
        self.turn: Callable[[], Awaitable[None]] = backend.checkpoint_function()
        self.others_ready: Callable[[], int] | None = backend.others_ready(loop)
        self.reads_ahead: bool = native is not None and isinstance(loop, asyncio.AbstractEventLoop)
        self.spin: Spin = Spin()
        self.crowd: Crowd = Crowd()
        self.poll_timer: LoopResource | None = None
        self._epoll: select.epoll | None = None
        self._readers: dict[int, Watcher] = {}
        self._writers: dict[int, Watcher] = {}

    def watch(self, fd: int, direction: int, watcher: Watcher) -> None:
        """Call `watcher.fired` whenever `fd` becomes ready from now on, or is so already."""
        table = self._table(direction)
        table[fd] = watcher  # first: then the set stays open, whatever the garbage collector closes meanwhile
        try:
            epoll = self._epoll or self._open()
            events = self._mask(fd) | select.EPOLLET
            try:
                epoll.register(fd, events)
            except FileExistsError:
                epoll.modify(fd, events)  # not by the tables: `fd` may be a new descriptor, if somebody else closed the old one
        except BaseException:
            table.pop(fd, None)
            self._close_if_empty()
            raise

    def fire_if_ready(self, fd: int) -> None:
        """Call the watchers of `fd` once more if it is ready: EPOLL_CTL_MOD looks, as EPOLL_CTL_ADD does (epoll_ctl(2))."""
        if self._epoll is not None:
            self._epoll.modify(fd, self._mask(fd) | select.EPOLLET)

    def unwatch(self, fd: int, direction: int) -> None:
        """Forget `fd` in that direction."""
        self._table(direction).pop(fd, None)
        epoll, rest = self._epoll, self._mask(fd)
        if epoll is None:
            return
        with suppress(OSError, ValueError):  # `fd` was closed by somebody else, and has left the set; or the set was closed
            if rest:
                epoll.modify(fd, rest | select.EPOLLET)
            else:
                epoll.unregister(fd)
        self._close_if_empty()

    def poll_now(self) -> bool:
        """Hand out the events that are there by now; whether there were any."""
        events = self._epoll.poll(0, _MOST_EVENTS) if self._epoll is not None else None
        if not events:
            return False
        self.hand_out(events)
        return True

    def _hand_out_and_run(self) -> None:
        """As `poll_now`, and run the tasks whose messages were read: the loop calls this, while no task runs.

        In its debug mode the loop runs them: it tells which of them take long.
        """
        if native is None or cast(asyncio.AbstractEventLoop, self.loop).get_debug():
            self.poll_now()
        elif self._epoll is not None:
            woken: list[object] = []
            try:
                self.hand_out(self._epoll.poll(0, _MOST_EVENTS), woken)
            finally:  # also after an interrupt: they are woken, and nobody else would run them
                if woken:
                    native.run(woken, self)

    def hand_out(self, events: list[tuple[int, int]], woken: list[object] | None = None) -> None:
        """Tell the watchers of these descriptors. The tasks whose messages were read are added to `woken`, or run later."""
        try:
            if self.reads_ahead and native is not None:
                events = native.read_ahead(events, self._readers, woken)
        finally:  # after an interrupt, all of them: an edge comes once, and a wake-up too many costs a try
            for fd, event in events:
                try:  # an error or a hang-up concerns both directions
                    if event & ~WRITE and (reader := self._readers.get(fd)) is not None:
                        reader.fired(event)
                    if event & ~READ and (writer := self._writers.get(fd)) is not None:
                        writer.fired(event)
                except Exception:
                    _logger.exception("a callback failed")

    def _table(self, direction: int) -> dict[int, Watcher]:
        return self._readers if direction == READ else self._writers

    def _mask(self, fd: int) -> int:
        return (READ if fd in self._readers else 0) | (WRITE if fd in self._writers else 0)

    def _open(self) -> select.epoll:
        epoll = select.epoll()
        try:
            if isinstance(self.loop, asyncio.AbstractEventLoop):
                self.loop.add_reader(epoll.fileno(), self._hand_out_and_run)
            else:
                backend.start_soon(self._poll_in_trio, epoll)
        except BaseException:
            epoll.close()
            raise
        self._epoll = epoll
        return epoll

    async def _poll_in_trio(self, epoll: select.epoll) -> None:
        """End trio's wait for events when the set has some; the instrument hands them out, before trio runs any task.

        If this task did that, each wake-up would take one more pass of trio's loop.
        """
        import trio

        instrument = _after_each_wait(self.poll_now)
        trio.lowlevel.add_instrument(instrument)
        try:
            while True:
                await trio.lowlevel.wait_readable(epoll.fileno())
        except (trio.ClosedResourceError, ValueError, OSError):
            pass  # closed, because no descriptor is left in it: while this waited, before it began, or before trio registers it
        finally:
            trio.lowlevel.remove_instrument(instrument)

    def _close_if_empty(self) -> None:
        """In another thread, as when the garbage collector runs there, the set waits for the next to leave."""
        if self._readers or self._writers or not self._may_close():
            return
        epoll, self._epoll = self._epoll, None
        if epoll is None:
            return
        if not isinstance(self.loop, asyncio.AbstractEventLoop):
            import trio

            with suppress(RuntimeError):  # the run is over
                trio.lowlevel.notify_closing(epoll)
        elif not self.loop.is_closed():
            self.loop.remove_reader(epoll.fileno())
        epoll.close()

    def _may_close(self) -> bool:
        if not isinstance(self.loop, asyncio.AbstractEventLoop):
            return backend.running() and backend.current() is self.loop
        return self.loop.is_closed() or not self.loop.is_running() or asyncio._get_running_loop() is self.loop

    def close(self) -> None:
        """The loop is over."""
        with _lock:
            if _reactors.get(self.loop) is self:
                del _reactors[self.loop]
        if self.poll_timer is not None:
            self.poll_timer.close()
        self._readers.clear()
        self._writers.clear()
        self._close_if_empty()

    def forget(self) -> None:
        """In a forked child: the set is its parent's, too, and must keep what is registered in it."""
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        if self.poll_timer is not None:
            self.poll_timer.forget()


def _after_each_wait(function: Callable[[], object]) -> trio.abc.Instrument:
    import trio

    class AfterWait(trio.abc.Instrument):
        def after_io_wait(self, timeout: float) -> None:
            function()

    return AfterWait()


_reactors: dict[object, Reactor] = {}
_lock = RLock()


@fork.in_child
def _forked() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have had it
    _lock = RLock()
    for reactor in _reactors.values():
        reactor.forget()
    _reactors.clear()


def reactor_of(loop: object) -> Reactor:
    """What aipc has in that loop, which runs here; made when it is first needed."""
    found = _reactors.get(loop)
    if found is not None:
        return found
    with _lock:
        over = [
            other
            for other in _reactors.values()
            if isinstance(other.loop, asyncio.AbstractEventLoop) and other.loop.is_closed()
        ]
        found = _reactors[loop] = Reactor(loop)
    for other in over:
        other.close()
    if not isinstance(loop, asyncio.AbstractEventLoop):
        backend.start_soon(_close_with_run, found)
    return found


async def _close_with_run(reactor: Reactor) -> None:
    """A run of trio leaves no trace by which to tell later that it is over, but its system tasks are cancelled."""
    import trio

    try:
        await trio.sleep_forever()
    finally:
        backend.call_all([reactor.close])
