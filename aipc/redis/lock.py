"""Locks and counting semaphores on a server, as leases that their process renews while it lives.

Redis is no consensus: a server that loses its memory, or fails over to a replica, may let two hold a lock at once. What protects
then is `token`, a number that only grows, if the storage refuses whoever comes with a smaller one than it has seen.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio

from aipc._io import fork
from aipc._sys.clock import elapsed
from aipc._texts.shown import Fact, parked, shown, usable
from aipc.abc import Semaphore
from aipc.exceptions import LeaseLost, UnsupportedOperation

from .grant import Grant
from .links import registry
from .links.link import Link
from .scripts import call
from .server import Place


class Holder(int):
    """A holder's pid, and the `host` on which it has it."""

    host: str

    def __new__(cls, pid: int, host: str) -> Self:
        holder = super().__new__(cls, pid)
        holder.host = host
        return holder

    def __repr__(self) -> str:
        return f"<Holder {int(self)} on {self.host}>"


class RemoteLock(Semaphore):
    """A lock on a server, or a semaphore with so many units (`value`).

    A block of `async with lock:` that can't renew its lease is cancelled before the lease ends, and raises LeaseLost. Without a
    block, `release` raises it, and `lost` tells. Waiters have their turn in order; the server wakes the next one.
    """

    def __init__(self, link: Link, place: Place, *, ttl: float, value: int) -> None:
        self._link = link
        self._name = place.url
        self._ttl = ttl
        self._ms = round(ttl * 1000)
        self._limit = value
        self._keys = (place.key(), *(place.key(part) for part in ("queue", "token", "tokens", "number")))
        self._grants: list[Grant] = []
        self._blocks: dict[int, list[tuple[Grant, anyio.CancelScope]]] = {}  # of each task
        self._waiting: set[str] = set()
        self._closed = False
        self._generation = fork.generation

    async def acquire(self, n: int = 1) -> None:
        """Wait until `n` units are ours. Cancelled: none is, and nobody waits for them."""
        self._check(n)
        name = self._new_name()
        place = self._link.wakes.place(name)

        queued: tuple[float, int] | None = None

        async def take(registers: bool) -> Grant | None:
            nonlocal queued
            if place.news and queued:
                grant = self._handed_over(name, n, place.news, *queued)
                if grant is not None:
                    return grant
            while True:
                asked = elapsed()
                token, *rest = await self._link.ask(self._acquire(name, n, waits=registers))
                if not token:
                    break
                grant = self._granted(name, n, token, asked)
                if not grant.expired:
                    return grant
                grant.end()  # the answer came too late: asked again, the server begins the lease anew
            milliseconds, time = rest
            queued = asked, time
            place.wake_in(milliseconds / 1000)
            return None

        self._waiting.add(name)
        try:
            grant = await place.attempt(take, lambda: self._check(n))
        except BaseException:
            self._give_back(name, n, 1, n)  # behind the request for it
            raise
        finally:
            self._waiting.discard(name)
        self._hold(grant)

    def acquire_nowait(self, n: int = 1) -> None:
        """Take `n` units, or WouldBlock, also without a connection. Waits for the server's answer.

        WouldBlock, too, if the answer came so late that the lease was over.
        """
        self._check(n)
        name, asked = self._new_name(), elapsed()
        try:
            token, *_ = self._link.ask_now(self._acquire(name, n, waits=False))
        except anyio.BrokenResourceError:
            self._give_back(name, n, 1, n)
            raise
        if not token:
            raise anyio.WouldBlock(f"{self._name}: taken; await acquire() waits for it")
        grant = self._granted(name, n, token, asked)
        if grant.expired:
            grant.end()
            self._give_back(name, n, 1, n)
            raise anyio.WouldBlock(f"{self._name}: the server's answer came after the lease; await acquire() asks again")
        self._hold(grant)

    def _handed_over(self, name: str, n: int, news: str, asked: float, time: int) -> Grant | None:
        """What a wake-up says that we hold, unless it is old. `asked`: by our clock, not after `time` (ms) by the server's."""
        token, _, since = news.partition(":")
        start = min(asked + (int(since) - time - 2) / 1000, elapsed())
        grant = self._granted(name, n, int(token), start)
        if elapsed() < start + self._ttl / 2:
            return grant
        grant.end()
        return None

    def _new_name(self) -> str:
        return f"{self._link.name}:{self._link.number()}:{os.getpid()}:{socket.gethostname()}"

    def _acquire(self, name: str, n: int, *, waits: bool) -> bytes:
        return call("acquire", self._keys, name, n, self._limit, self._ms, int(waits))

    def _granted(self, name: str, n: int, token: int, asked: float) -> Grant:
        return Grant(self._link.loop, name, n, token, self._ttl, asked)

    def _hold(self, grant: Grant) -> None:
        if self._closed:
            grant.end()
            self._give_back(grant.name, grant.units, 1, grant.units)
            self._check(1)
        grant.renew = self._renew
        self._grants.append(grant)

    def _renew(self, grant: Grant, answered: Callable[[Any], None]) -> None:
        if not self._link.closed:
            self._link.tell(call("renew", self._keys, grant.name, grant.units, self._ms), answered)

    def release(self, n: int = 1) -> None:
        """Give `n` units back, the last ones first. LeaseLost if they were lost before. RuntimeError if this object holds fewer."""
        self._check(1)
        if sum(grant.units for grant in self._grants) < n:
            raise RuntimeError(f"{self._name}: released, but not held by this object")
        lost = False
        while n:
            grant = self._grants[-1]
            units = min(n, grant.units)
            lost |= grant.expired
            self._give_back(grant.name, grant.units, grant.units - units + 1, grant.units)
            grant.units -= units
            n -= units
            if not grant.units:
                grant.end()
                self._grants.pop()
        if lost:
            raise self._lease_lost()

    def _give_back(self, name: str, n: int, first: int, last: int) -> None:
        if not self._link.closed:
            self._link.tell(call("release", self._keys, name, n, self._ms, self._limit, first, last))

    def _lease_lost(self) -> LeaseLost:
        return LeaseLost(f"{self._name}: the lease ended before it was released: it could not be renewed in {self._ttl} s")

    async def __aenter__(self) -> Self:
        await self.acquire()
        grant, scope = self._grants[-1], anyio.CancelScope()
        scope.__enter__()
        grant.told = scope.cancel
        self._blocks.setdefault(anyio.get_current_task().id, []).append((grant, scope))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = anyio.get_current_task().id
        grant, scope = self._blocks[task].pop()
        if not self._blocks[task]:
            del self._blocks[task]
        grant.told = None
        lost = grant.expired  # also if this process was stopped, and nothing told it yet
        try:
            if grant in self._grants and not self._closed:
                with suppress(LeaseLost):
                    self._release_grant(grant)
        finally:
            swallowed = scope.__exit__(kind, error, trace)
        if lost and (swallowed or kind is None):  # trio's scopes say that they swallow nothing, too
            raise self._lease_lost()

    def _release_grant(self, grant: Grant) -> None:
        self._grants.remove(grant)
        self._grants.append(grant)
        self.release(grant.units)

    @property
    def token(self) -> int:
        """The number of the acquisition that is held: it only grows, also over restarts of a server that keeps its file.

        Give it to the storage, which refuses a smaller one than it has seen. RuntimeError if nothing is held; LeaseLost.
        """
        if not self._grants:
            raise RuntimeError(f"{self._name}: not held by this object: it has no token")
        if self._grants[-1].expired:
            raise self._lease_lost()
        return self._grants[-1].token

    @property
    def lost(self) -> bool:
        """Whether something that this object holds was lost."""
        return any(grant.expired for grant in self._grants)

    @property
    def value(self) -> int:
        return self._limit - len(self._units())

    def locked(self) -> bool:
        """Whether no unit is free. Waits for the server's answer, as `holder` and `value` do."""
        return self.value <= 0

    def holder(self) -> Holder | None:
        """The pid of one holder, and its `host`; None if nobody holds it."""
        units = self._units()
        if not units:
            return None
        _, _, pid, host = units[0].decode().rpartition("#")[0].split(":", 3)
        return Holder(int(pid), host)

    def _units(self) -> list[bytes]:
        self._check(1)
        units: list[bytes] = self._link.ask_now(call("look", self._keys))[0]
        return units

    async def wait_zero(self) -> None:
        self._check(1)
        raise UnsupportedOperation(f"{self._name}: a semaphore on a server does not tell when it is zero")

    async def aclose(self) -> None:
        """Release what is held and close. Idempotent, also under cancellation; waiting tasks see ClosedResourceError."""
        if self._closed or self._generation != fork.generation:
            return
        self._closed = True
        for grant in self._grants:
            grant.end()
            self._give_back(grant.name, grant.units, 1, grant.units)
        self._grants.clear()
        for name in self._waiting:
            self._link.wakes.ring(name)
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await self._link.flushed()
        registry.leave(self._link)

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._name
        yield usable(self._closed, self._generation)
        yield (
            f"holds {sum(grant.units for grant in self._grants)} of {self._limit}"
            if self._limit > 1
            else "held"
            if self._grants
            else "not held by this object"
        )
        yield "lease lost" if self.lost else ""
        yield parked(len(self._waiting), "for it")

    def _check(self, n: int) -> None:
        fork.check(self._generation, self._name)
        if self._closed:
            raise anyio.ClosedResourceError(f"{self._name}: closed")
        if not 1 <= n <= self._limit:
            raise ValueError(f"{self._name}: n={n}: it has {self._limit} units")
