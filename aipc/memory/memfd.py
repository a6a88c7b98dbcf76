"""Sealed memory without a name (memfd_create(2)): processes pass it on as a descriptor (SCM_RIGHTS, unix(7))."""

from __future__ import annotations

import os
from typing import Self

from aipc._sys import memfd
from aipc.abc import Lock
from aipc.exceptions import AddressError

from .base import FileSegment, MappedSegment, OpenFile, checked_size, explained


class MemfdSegment(FileSegment):
    """Memory that nobody can resize, and that is freed with its last user: safe to share with an untrusted process.

    Send `fd` to a peer: `await channel.send(b"table", fds=[segment.fd])`. The peer can change the contents at any time: copy
    first, then check.
    """

    __slots__ = ()

    @classmethod
    def create(cls, name: str, size: int, *, lock: Lock | str | None = None) -> Self:
        """Make `size` zero bytes. `name` is shown in /proc/PID/maps only. NoSpace if there is not enough memory."""
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
        """Map a descriptor that came from a peer. The segment owns it from then on; after an error it stays yours.

        WrongObject if it is not a memfd, or can be resized; AccessDenied if it can only be read: use `read_only`.
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
        """Do nothing: there is no name, and the memory is freed with its last user."""
