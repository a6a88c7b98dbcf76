"""Pipes for children: which side closes which end, and which end blocks.

Each end of a pipe(2) has its own open file description. So our end can be non-blocking while the child's end blocks: most
programs treat EAGAIN on their standard input as an error.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from aipc._io.errors import translate
from aipc._io.handle import FileHandle


class ChildPipes:
    """A block in which children are started. Leaving it closes the children's ends; ours are closed only if the block fails."""

    __slots__ = ("_failed", "_name", "_started", "_theirs")

    def __init__(self, name: str) -> None:
        self._name = name
        self._theirs = ExitStack()
        self._failed = ExitStack()
        self._started = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._theirs:
            (self._started if error is None else self._failed).close()

    def pipe(self) -> tuple[int, int]:
        """Make a pipe from one child to the next; return its reading and its writing end."""
        reading, writing = self._new()
        self._theirs.callback(os.close, reading)
        self._theirs.callback(os.close, writing)
        return reading, writing

    def to_child(self) -> tuple[int, FileHandle]:
        """Make a pipe into a child; return the child's end and ours."""
        theirs, ours = self._new()
        return self._ends(theirs, ours, "stdin")

    def from_child(self, what: str = "stdout") -> tuple[int, FileHandle]:
        """Make a pipe out of a child; return the child's end and ours."""
        ours, theirs = self._new()
        return self._ends(theirs, ours, what)

    def lend(self, fd: int, hand_over: Callable[[], object]) -> int:
        """Return a blocking descriptor for a child, in place of the non-blocking `fd`.

        A pipe, a FIFO or a terminal is opened anew, and `fd` does not change. A socket cannot be opened anew: it becomes blocking
        itself, and `hand_over` is called once the children have started.
        """
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.set_blocking(fd, True)
                self._failed.callback(os.set_blocking, fd, False)
                self._started.callback(hand_over)
                return fd
            theirs = _opened_anew(fd)
        except OSError as error:
            raise translate(error, self._name) from None
        self._theirs.callback(os.close, theirs)
        return theirs

    def _ends(self, theirs: int, ours: int, what: str) -> tuple[int, FileHandle]:
        self._theirs.callback(os.close, theirs)
        handle = FileHandle(ours, f"{self._name} ({what})")
        self._failed.callback(handle.close)
        return theirs, handle

    def _new(self) -> tuple[int, int]:
        try:
            return os.pipe()
        except OSError as error:
            raise translate(error, self._name) from None


def access(fd: int) -> int:
    """The direction of a descriptor: O_RDONLY, O_WRONLY or O_RDWR."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE


def _opened_anew(fd: int) -> int:
    """Open the same pipe, FIFO or terminal again, with a blocking description of its own (proc(5), /proc/pid/fd)."""
    theirs = os.open(
        f"/proc/self/fd/{fd}", access(fd) | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    )  # do not wait for a FIFO's peer
    os.set_blocking(theirs, True)
    return theirs
