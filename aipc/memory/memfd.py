"""Memory without a name, sealed (memfd_create(2)): it goes from process to process as a descriptor (SCM_RIGHTS, unix(7))."""

from __future__ import annotations

import os
from typing import Self

from aipc._sys import memfd
from aipc.abc import Lock
from aipc.exceptions import AddressError

from .base import FileSegment, MappedSegment, OpenFile, checked_size, explained


class MemfdSegment(FileSegment):
    """Memory that nobody can resize, and that goes with its last user: safe to share with a process that you don't trust.

    Send `fd` to a peer: `await channel.send(b"table", fds=[segment.fd])`. What is in the memory the peer can change at any
    time: copy, then check.
    """

    __slots__ = ()

    @classmethod
    def create(cls, name: str, size: int, *, lock: Lock | str | None = None) -> Self:
        """Make `size` zero bytes. `name` shows in /proc/PID/maps only. NoSpace if no memory is left for it."""
        if not isinstance(name, str):
            raise TypeError(f"name={name!r}: must be a str, to be seen in /proc/PID/maps")
        if "\0" in name or len(os.fsencode(name)) > 249:
            raise AddressError(f"{name!r}: at most 249 bytes, none of them zero (memfd_create(2))")
        label = f"memfd {name}"
        checked_size(label, size)
        with explained(label):
            return cls(label, OpenFile(memfd.create(name, size)), size, read_only=False, lock=lock)

    @classmethod
    def open(cls, fd: int, read_only: bool = False, *, lock: Lock | str | None = None) -> Self:
        """Map a descriptor that came from a peer. It belongs to the segment from then on; on an error it stays yours.

        WrongObject if it is no memfd, or one that can be resized; AccessDenied if it can only be read: use `read_only`.
        """
        if isinstance(fd, bool) or not isinstance(fd, int):
            raise TypeError(f"fd={fd!r}: must be a descriptor's number")
        label = f"memfd {fd}"

        with explained(label):
            size = memfd.check(fd)
            file = OpenFile(fd)
            try:
                return cls(label, file, size, read_only=read_only, lock=lock)
            except BaseException:
                file.give_up()
                raise

    def resize(self, size: int) -> None:
        MappedSegment.resize(self, size)

    def _remove(self, *, missing_ok: bool) -> None:
        """There is no name: the memory goes with its last user anyway."""
