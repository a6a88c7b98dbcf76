"""A client made by hand, the memory that it offers, and the numbers that it would choose."""

from __future__ import annotations

import fcntl
import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aipc.wire import ring

HELLO = b"aipcshm1"
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
PUBLISHED, CONSUMED, SLEEPS, ENDED, REGISTERED = 0, 16, (32, 48), 64, 80  # words of a direction's numbers
THEIRS = 256  # the client's direction, in words
SKIP, PART = 1 << 63, 1 << 62


class Numbers:
    """Numbers that a hostile peer would choose: near the limits of what is right, or anything."""

    def __init__(self, seed: int, capacity: int) -> None:
        self._random = random.Random(seed)
        near = [0, capacity // 4, capacity // 2, capacity, 2 * capacity, 1 << 31, 1 << 32, 1 << 48, 1 << 62, 1 << 63, 1 << 64]
        close = [number + by for number in near for by in (-16, -8, -1, 0, 1, 7, 8, 9, 16, 24)]
        flags = [number | flag for number in (0, 8, 9, 24, 100, capacity) for flag in (PART, SKIP, PART | SKIP)]
        self._chosen = [number for number in [*close, *flags, *range(0, 256, 8)] if 0 <= number < 1 << 64]

    def any(self) -> int:
        if self._random.random() < 0.9:
            return self._random.choice(self._chosen)
        return self._random.getrandbits(64)

    def moved(self, position: int) -> int:
        """A position near this one, most of the time."""
        return (position + self.any()) % (1 << 64)


class Raw:
    """A client made by hand."""

    def __init__(self, place: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(f"{place}/ring")

    def offer(self, fds: list[int], hello: bytes = HELLO) -> None:
        if fds:
            socket.send_fds(self.socket, [hello], fds)
        else:
            self.socket.send(hello)

    def close(self) -> None:
        self.socket.close()


@contextmanager
def memfd(size: int, seals: int = SEALS, flags: int = os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC) -> Iterator[int]:
    """Memory to offer."""
    fd = os.memfd_create("hostile", flags)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        yield fd
    finally:
        os.close(fd)


GOOD = ring.memory_size(4096)
