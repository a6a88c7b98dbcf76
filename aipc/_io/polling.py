"""Waiting for an object without a descriptor: System V queues, semaphores, locks on files.

Each try is a non-blocking system call. Between tries the pauses double, from 50 µs to 10 ms; a wait that has lasted over a
second doubles them on, to 100 ms, because the kernel alone charges some 40 µs for each wake-up. `poll_timer` measures them, for all
waits of a loop together, and stretches them when there are many. A doorbell cuts them short when the other side is aipc, too. After
a wait that it ended, the next one begins with a pause of 3 ms: where processors are busy, each wake-up in vain makes the next one late.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic

from aipc._sys.doorbell.table import WAITERS, Call
from aipc._sys.yielding import YieldToPeer

from . import fork
from .doorbell import Doorbell, DoorbellListener
from .loop import backend
from .loop.reactor import Reactor
from .loop.spin import LONGEST
from .poll_timer import POLL_PRICE, VAIN_WAKE_PRICE, PollTimer, poll_timer
from .waiter import Look, Owner, Waiter

FIRST_PAUSE, RUNG_PAUSE, LONG_PAUSE, LONGEST_PAUSE = 50e-6, 3e-3, 10e-3, 100e-3
_LONG_WAIT = 1.1
_yield = YieldToPeer()  # before parking, which takes some 100 µs: the peer that just got our answer may need this processor


def always() -> bool:
    return True


class Polling(Waiter):
    """Any number of tasks that wait for one object. `available` tells, without a side effect, whether a try is worth while.

    `names` are the object's, the same in all processes, one for each thing that may be waited for: whoever provides it says so
    by `notify`. `selective`: the tasks wait for different things, so that all of them are woken, and not only the first.
    `probes`: how often to ask `available` between two turns of the loop while spinning; 0 if a try costs no more.
    """

    LONGEST_SPIN = 3 * LONGEST  # to park costs more here: a timer, a barrier, a call. And a peer that has idled needs 0.3 ms
    __slots__ = (
        "_available", "_call", "_doorbells", "_listener", "_pause", "_poll_timer", "_poll_woke", "_probes", "_rung", "_since", "due", "long_waiting",
        "price", "selective",
    )  # fmt: skip
    retries: bool  # of Waiter; declared again, because pyright takes what is set below for a new attribute

    def __init__(
        self, owner: Owner, available: Callable[[], bool] = always, *names: str, selective: bool = False, probes: int = 0
    ) -> None:
        super().__init__(owner)
        self._doorbells = tuple(map(Doorbell, names))
        self._probes = probes
        self._listener: DoorbellListener | None = None  # where this listens
        self._call: Call | None = None  # what woke a task, and may be of use to another process
        self._poll_timer: PollTimer | None = None
        self._available = available
        self._pause = FIRST_PAUSE
        self._since = 0.0
        self._poll_woke = False  # by a look
        self._rung = False  # the last wait was ended by a call
        self.selective: bool = selective
        self.due: float = inf
        self.long_waiting: bool = False
        self.price: int = POLL_PRICE

    def _wait_begins(self) -> None:
        _yield()
        self._pause = RUNG_PAUSE if self._rung else FIRST_PAUSE
        self._since = monotonic()
        self._poll_woke = False
        self._call = None
        if self._poll_timer is not None:
            self._poll_timer.cancel(self)  # it may be in a long pause of another task's wait
        self.long_waiting = False

    def _park(self, reactor: Reactor, *, front: bool) -> Awaitable[bool | None]:
        if self._poll_timer is None:
            self._poll_timer = poll_timer(reactor)
        self.retries = False
        self.pass_on()
        if self._listener is None and self._doorbells:
            self._listener = self._poll_timer.doorbell_listener()
            if self._listener is not None:
                for doorbell in self._doorbells:
                    self._listener.listen(doorbell, self)
                return backend.checkpoint()  # one more try: a notification before now was for others
        if self.due == inf:
            self.price = VAIN_WAKE_PRICE if self._poll_woke else POLL_PRICE
            self._poll_woke = False
            self._poll_timer.schedule(self, self._next_pause())
        return self._queue_in(reactor.loop, front=front)

    def _wait_cancelled(self, parked: Awaitable[bool | None]) -> None:
        super()._wait_cancelled(parked)
        self.pass_on()

    def wake(self) -> None:
        """Let tasks try again, if they may succeed; those that stay parked go on looking."""
        self.retries = False
        self._wake_if_available()

    def _wake_if_available(self) -> None:
        if self._may_succeed():
            self._wake_some()
        if self._first is not None and self.due == inf and self._poll_timer is not None:
            self._poll_timer.schedule(self, self._next_pause())

    def _wake_some(self) -> None:
        if self.selective or not self.retries:
            self.retries |= self._first is not None
            if self.selective:
                self.wake_all()
            else:
                super().wake()

    def _may_succeed(self) -> bool:
        try:
            return self._available()
        except Exception:  # noqa: BLE001 - the try meets it, too, and tells its caller
            return True

    def notify(self, most: int = WAITERS) -> None:
        """The object may be available: wake tasks that wait for it here, and in `most` other processes."""
        if self._first is not None:
            self._wake_if_available()
        for doorbell in self._doorbells:
            doorbell.notify(most)

    def others_wait(self) -> bool | None:
        """Whether anybody else waits for it, another object of this loop included; None if there is no table that tells."""
        known = [doorbell.others_wait(self._listener, self) for doorbell in self._doorbells]
        return None if None in known else any(known)

    def on_notify(self, call: Call) -> bool:
        """Another process made the object available. False if no task here is woken by it."""
        if not (self.waiting or self.retries):
            self._unlisten()
        if not (self.waiting and self._may_succeed()):
            return False
        self._call, self._rung = call, True
        self._wake_some()
        return True

    def pass_on(self) -> bool:
        """What woke a task here was of no use to it, or leaves something: wake the next process. False if no call woke it."""
        call, self._call = self._call, None
        if call is None or self._listener is None:
            return False
        self._listener.pass_on(call)
        return True

    def poll(self) -> float | None:
        """A pause is over. Return the next one, or None if no task waits, or one was woken to try."""
        if not (self.waiting or self.retries):
            self._unlisten()
            return None
        if self._listener is not None:
            for doorbell in self._doorbells:
                self._listener.renew(doorbell)
        if self._may_succeed():
            self._poll_woke, self._rung = True, False
            self._wake_some()
            return None
        return self._next_pause()

    def _next_pause(self) -> float:
        self.long_waiting = monotonic() - self._since >= _LONG_WAIT
        pause = min(self._pause, LONGEST_PAUSE if self.long_waiting else LONG_PAUSE)
        self._pause = 2 * pause
        return pause

    def _unlisten(self) -> None:
        self.pass_on()
        bell, self._listener = self._listener, None
        if bell is not None:
            for doorbell in self._doorbells:
                bell.leave(doorbell, self)

    def _leave_loop(self) -> None:
        used, self._poll_timer = self._poll_timer, None
        if self._generation != fork.generation:
            self._listener = None
        elif used is not None:
            self._unlisten()
            used.cancel(self)
            used.release()

    def close(self) -> None:
        """Release the timer; every waiter retries and finds the object closed."""
        self._leave_loop()
        doorbells, self._doorbells = self._doorbells, ()
        for doorbell in doorbells:
            doorbell.close()
        self.wake_all()

    def _look(self, reactor: Reactor) -> Look:
        probes = 0 if reactor.spin.brief else self._probes  # who has just given way tries at once
        return Look.PROMISING if not probes or any(self._available() for _ in range(probes)) else Look.NOTHING
