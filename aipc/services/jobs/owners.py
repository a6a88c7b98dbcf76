"""The processes that have leases, and which of them have ended.

A process is identified by pid, start time, PID namespace and boot. One of an earlier boot has ended. One of this PID namespace is
watched by a pidfd, which becomes readable when it ends, even if it is not reaped. The state of one of another PID namespace is
unknown: its leases stay until a process of its namespace checks.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path

from aipc._sys.processes import Process, pidfd_of, this_process

from .tables import Tables


def _this_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Owners:
    """The owners of one queue, as one process sees them. `pidfds` are the descriptors to wait for."""

    def __init__(self) -> None:
        self._boot = _this_boot()
        try:
            self._self = this_process()
        except OSError:  # no /proc
            self._self = Process(os.getpid(), 0, 0)
        self._own: int | None = None
        self.pidfds: dict[int, int] = {}
        """The pidfds by owner."""

    def own(self, tables: Tables) -> int:
        """This process's number in the queue, assigned at the first call."""
        if self._own is None:
            self._own = tables.add_owner(*self._self, self._boot)
        return self._own

    @property
    def registered(self) -> bool:
        """Whether this process has a number."""
        return self._own is not None

    def forget(self) -> None:
        """Forget the number: the transaction that assigned it failed."""
        self._own = None

    def remove_ended(self, tables: Tables) -> None:
        """Give back the leases of processes that have ended, and watch the others."""
        known = set()
        for owner, pid, start, namespace, boot in tables.owners():
            known.add(owner)
            if owner != self._own and self._has_ended(owner, Process(pid, start, namespace), boot):
                tables.remove_owner(owner)
                known.discard(owner)
        for owner in self.pidfds.keys() - known:
            os.close(self.pidfds.pop(owner))

    def _has_ended(self, owner: int, process: Process, boot: str) -> bool:
        if boot != self._boot:
            return True
        if process.namespace != self._self.namespace:
            return False
        if owner in self.pidfds:
            return _is_readable(self.pidfds[owner])
        try:
            self.pidfds[owner] = pidfd_of(process)
        except ProcessLookupError:
            return True
        except OSError:  # no free descriptor: a later check may have one
            return False
        return False

    def leave(self, tables: Tables) -> None:
        """Note that this process leases no more."""
        if self._own is not None:
            tables.remove_owner(self._own)
            self._own = None

    def close(self) -> None:
        """Stop watching."""
        while self.pidfds:
            with suppress(OSError):
                os.close(self.pidfds.popitem()[1])


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
