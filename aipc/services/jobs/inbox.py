"""The requests of all tasks of a process for one thread: the only object that both sides touch, under one lock."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterable
from functools import partial
from itertools import islice
from threading import Condition
from typing import Any

import anyio

from aipc._io.loop import backend

from .requests import STEPS, Done, Request, State
from .tables import Job

_AT_ONCE = 256
"""The most requests of one key that one transaction serves: others wait for its end."""


class Inbox:
    """Requests in order of arrival, by key. `fresh` is whether one came since the last claim."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._queues: dict[Hashable, OrderedDict[Request[Any], None]] = {}
        self.fresh: bool = False

    def submit(self, request: Request[Any]) -> None:
        """Queue a request."""
        with self._changed:
            self._queues.setdefault(request.key, OrderedDict())[request] = None
            self.fresh = True

    def withdraw(self, request: Request[Any]) -> bool:
        """True: it was not carried out, and will not be. Waits for a transaction that has it."""
        with self._changed:
            self._changed.wait_for(lambda: request.state is not State.CLAIMED)
            if request.state is State.PENDING:
                request.state = State.WITHDRAWN
                self._remove(request)
            return request.state is State.WITHDRAWN

    def bring_nothing(self, request: Done) -> Job | None:
        """Its task waits no longer: it brings no job along. Returns the one that it has brought; waits for a transaction that has it."""
        with self._changed:
            self._changed.wait_for(lambda: request.state is not State.CLAIMED)
            request.then = None
            return request.next

    def wait(self, request: Request[Any], seconds: float) -> bool:
        """Block until the request is done. False if it was withdrawn: it could not be done in time."""
        with self._changed:
            self._changed.wait_for(lambda: request.state is State.DONE, seconds)
        return not self.withdraw(request)

    def batch(self) -> list[Request[Any]]:
        """Return the requests for one transaction, not claimed: steps, puts, and takes, those of a key together."""
        with self._changed:
            self.fresh = False
            requests: list[Request[Any]] = []
            for key in sorted(self._queues, key=_rank):
                some = list(islice(self._queues[key], _AT_ONCE))
                self.fresh |= key == STEPS and len(some) == _AT_ONCE
                requests += some
            return requests

    def claim(self, requests: Iterable[Request[Any]]) -> list[Request[Any]]:
        """Claim those that are still there. Only in a turn: a task that withdraws a claimed request blocks until it is settled."""
        with self._changed:
            claimed = [request for request in requests if request.state is State.PENDING]
            for request in claimed:
                request.state = State.CLAIMED
            return claimed

    def unclaim(self, requests: Iterable[Request[Any]]) -> None:
        """Put them back: they were not carried out, and wait on."""
        with self._changed:
            for request in requests:
                if request.state is State.CLAIMED:
                    request.state = State.PENDING
                    request.reset()
            self._changed.notify_all()

    def settle(self, claimed: Iterable[Request[Any]], served: list[Request[Any]]) -> None:
        """After the commit, answer the `served` requests; the others wait on, except those that cannot wait."""
        answered = set(served)
        refused = [request for request in claimed if request.now and request not in answered]
        for request in refused:
            request.error = anyio.WouldBlock()
        with self._changed:
            for request in (*served, *refused):
                request.state = State.DONE
                self._remove(request)
            for request in claimed:
                if request.state is State.CLAIMED:
                    request.state = State.PENDING
            self.fresh |= len(answered) >= _AT_ONCE
            self._changed.notify_all()
        _wake(served)

    def fail(self, request: Request[Any], error: Exception) -> None:
        """Answer one request with an error, unless it was withdrawn."""
        with self._changed:
            if request.state is not State.PENDING:
                return
            request.reset()
            request.error = error
            request.state = State.DONE
            self._remove(request)
            self._changed.notify_all()
        _wake([request])

    def fail_all(self, error: Exception) -> None:
        """Answer every request with an error."""
        with self._changed:
            self.fresh = False
            failed = [request for queue in self._queues.values() for request in queue]
            self._queues.clear()
            for request in failed:
                request.reset()
                request.error = type(error)(*error.args)
                request.state = State.DONE
            self._changed.notify_all()
        _wake(failed)

    @property
    def has_steps(self) -> bool:
        """Whether steps are queued."""
        return STEPS in self._queues

    @property
    def waits(self) -> bool:
        """Whether requests are queued that may have to wait for jobs or room."""
        return len(self._queues) > (STEPS in self._queues)

    def _remove(self, request: Request[Any]) -> None:
        queue = self._queues.get(request.key)
        if queue is not None:
            queue.pop(request, None)
            if not queue:
                del self._queues[request.key]


def _rank(key: Hashable) -> int:
    return 0 if key == STEPS else 1 if isinstance(key, str) else 2


def _wake(requests: Iterable[Request[Any]]) -> None:
    by_loop: dict[object, list[Request[Any]]] = defaultdict(list)
    for request in requests:
        if request.loop is not None:
            by_loop[request.loop].append(request)
    for loop, woken in by_loop.items():
        backend.call_from_thread(loop, partial(_wake_each, woken))


def _wake_each(requests: list[Request[Any]]) -> None:
    for request in requests:
        request.wake()
