"""What all looks at a machine's objects share: one walk through /proc, at the first question."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property

from aipc._sys.doorbell.watching import Watch
from aipc._sys.proc.file_users import Users, users_of
from aipc._sys.proc.inet_sockets import InetSocket, inet_sockets
from aipc._sys.proc.sleepers import Sleeper, sleepers
from aipc._sys.proc.unix_diag import UnixSocket, unix_sockets


class Machine:
    """Other users' processes are seen by root only."""

    def __init__(self) -> None:
        self._watch = Watch()

    @cached_property
    def users(self) -> Users:
        """The processes of every open file, socket and segment."""
        return users_of()

    @cached_property
    def _sleepers(self) -> list[Sleeper]:
        return sleepers()

    @cached_property
    def unix_sockets(self) -> dict[int, UnixSocket]:
        """Every Unix socket by inode; none if the kernel has no socket monitor."""
        with suppress(OSError):
            return unix_sockets()
        return {}

    def inet_sockets(self, protocol: str) -> list[InetSocket]:
        """Every socket of "tcp" or "udp"."""
        return inet_sockets(protocol)

    def users_of_file(self, path: str) -> list[int]:
        """The processes that have a file open."""
        status = os.stat(path)
        return self.users.files.get((status.st_dev, status.st_ino), [])

    def waiting(self, *names: str) -> list[int]:
        """The processes with a task of aipc's that waits for an object of one of these names."""
        return self._watch.waiting(names)

    def asleep(self, number: int, *calls: str) -> list[int]:
        """The processes that sleep in one of these system calls for the System V object of that number."""
        return [one.pid for one in self._sleepers if one.object == number and one.call in calls]

    def asleep_in_file(self, identity: tuple[int, int], *calls: str) -> list[int]:
        """The processes that sleep in one of these system calls for the open file of that device and inode."""
        return [one.pid for one in self._sleepers if one.call in calls and _is_file(one, identity)]

    def close(self) -> None:
        """Close what is open."""
        self._watch.close()


def _is_file(sleeper: Sleeper, identity: tuple[int, int]) -> bool:
    try:
        status = os.stat(f"/proc/{sleeper.pid}/fd/{sleeper.object}")
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == identity


def alive(pids: Iterable[int]) -> list[int]:
    """Those that have not ended."""
    return [pid for pid in pids if pid > 0 and os.path.exists(f"/proc/{pid}")]
