"""What aipc has in one event loop: an epoll set, the timer and the doorbell of its polled waits, and one wait that spins.

The set has all descriptors that tasks of an asyncio or uvloop loop wait for, edge-triggered, and hangs in that loop as one
reader. Against `loop.add_reader` for each descriptor: an event is seen once, where a level-triggered one comes a second time
before the woken task has read (and costs it a vain system call); an idle connection takes some 30 bytes instead of 360; and
nothing depends on when a loop really lets go of a descriptor (MagicStack/uvloop#61). Registration is sticky: it stays between
waits, and goes when it fires with nobody waiting. The set itself goes with its last descriptor.

Edges are safe because a task always tries, and only then parks, with nothing awaited in between. trio waits by itself.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import RLock
from typing import Protocol

from .. import fork
from . import backend

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_MOST_EVENTS = 256


class Watcher(Protocol):
    """Who wants to know that a descriptor became ready."""

    def fired(self) -> None: ...


class LoopResource(Protocol):
    """What else belongs to a loop."""

    def close(self) -> None:
        """Give it back: the loop is over."""

    def forget(self) -> None:
        """Close its descriptors, and nothing else: this is a forked child."""


class Reactor:
    """What aipc has in one loop, which `loop` stands for (`backend.current`)."""

    __slots__ = ("_epoll", "_readers", "_writers", "loop", "poll_timer", "spinning")

    def __init__(self, loop: object) -> None:
        self.loop = loop
        self.spinning: bool = False
        """Whether a wait of this loop spins."""
        self.poll_timer: LoopResource | None = None
        self._epoll: select.epoll | None = None
        self._readers: dict[int, Watcher] = {}
        self._writers: dict[int, Watcher] = {}

    def watch(self, fd: int, direction: int, watcher: Watcher) -> None:
        """Call `watcher.fired()` whenever `fd` becomes ready from now on, or is so already."""
        epoll = self._epoll or self._open()
        known = self._mask(fd)
        try:
            (epoll.modify if known else epoll.register)(fd, known | direction | select.EPOLLET)
        except OSError:
            self._close_if_empty()
            raise
        self._table(direction)[fd] = watcher

    def unwatch(self, fd: int, direction: int) -> None:
        """Forget `fd` in that direction."""
        self._table(direction).pop(fd, None)
        if self._epoll is None:
            return
        rest = self._mask(fd)
        with suppress(OSError):  # somebody else closed it: then it has left the set
            if rest:
                self._epoll.modify(fd, rest | select.EPOLLET)
            else:
                self._epoll.unregister(fd)
        self._close_if_empty()

    def _table(self, direction: int) -> dict[int, Watcher]:
        return self._readers if direction == READ else self._writers

    def _mask(self, fd: int) -> int:
        return (READ if fd in self._readers else 0) | (WRITE if fd in self._writers else 0)

    def _dispatch(self) -> None:
        if self._epoll is not None:
            backend.call_all(self._callbacks(self._epoll.poll(0, _MOST_EVENTS)))

    def _callbacks(self, events: list[tuple[int, int]]) -> Iterator[Callable[[], None]]:
        for fd, event in events:  # an error or a hang-up concerns both directions
            if event & ~WRITE and fd in self._readers:
                yield self._readers[fd].fired
            if event & ~READ and fd in self._writers:
                yield self._writers[fd].fired

    def _open(self) -> select.epoll:
        assert isinstance(self.loop, asyncio.AbstractEventLoop)
        epoll = select.epoll()
        try:
            self.loop.add_reader(epoll.fileno(), self._dispatch)
        except BaseException:
            epoll.close()
            raise
        self._epoll = epoll
        return epoll

    def _close_if_empty(self) -> None:
        """In another thread, as when the garbage collector runs there, the set waits for the next to leave."""
        assert isinstance(self.loop, asyncio.AbstractEventLoop)
        if self._readers or self._writers or self._epoll is None:
            return
        closed = self.loop.is_closed()
        if not closed and self.loop.is_running() and asyncio._get_running_loop() is not self.loop:
            return
        epoll, self._epoll = self._epoll, None
        if not closed:
            self.loop.remove_reader(epoll.fileno())
        epoll.close()

    def close(self) -> None:
        """The loop is over."""
        with _lock:
            if _reactors.get(self.loop) is self:
                del _reactors[self.loop]
        if self.poll_timer is not None:
            self.poll_timer.close()
        self._readers.clear()
        self._writers.clear()
        if self._epoll is not None:
            self._close_if_empty()

    def forget(self) -> None:
        """In a forked child: the set is its parent's, too, and must keep what is registered in it."""
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        if self.poll_timer is not None:
            self.poll_timer.forget()


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
