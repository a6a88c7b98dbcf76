"""Which processes wait for an object by aipc: they have marked its row in the waiters' table, each in its own column."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property

from ..byte_locks import Range
from ..proc import file_locks
from . import memory as doorbell_memory
from .table import DIRECTORY, ROWS, SIZE, WAITERS, file_name, tag_of

_MARK = WAITERS
"""Bytes before the first row."""


class Watch:
    """The table of this user, as it is now. It takes no part in it: nothing is locked, made or changed."""

    def __init__(self) -> None:
        try:
            self._fd = os.open(f"{DIRECTORY}/{file_name()}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            self._fd = -1  # no process has it

    @cached_property
    def _rows(self) -> bytes:
        try:
            return bytes(doorbell_memory.attach(self._fd, SIZE)[_MARK:]) if self._fd >= 0 else b""
        except OSError:
            return b""  # its last process leaves

    @cached_property
    def _owners(self) -> Mapping[int, int]:
        """The process of each column: it has a lock of its open file on one byte."""
        found = file_locks.holders_of_open_files(self._fd, b"OFDLCK")
        return {where.start: pid for where, pid in found if where == Range(where.start, where.start + 1)}

    def waiting(self, names: Iterable[str]) -> list[int]:
        """The processes that wait for one of these objects. Two names of 512 share a row, and are then not told apart."""
        rows = {tag_of(name) % ROWS for name in names}
        columns = {
            at for row in rows for at in range(WAITERS) if self._rows[row * WAITERS + at : row * WAITERS + at + 1] == b"\1"
        }
        return sorted({self._owners[column] for column in columns if column in self._owners}) if columns else []

    def is_table(self, row: dict[str, int]) -> bool:
        """Whether a row of `sysv_tables` is the table's segment."""
        return doorbell_memory.is_table(row, SIZE, self._fd)

    def close(self) -> None:
        """Close the table's file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
