"""Who holds a lock on a file: /proc/locks (proc_locks(5))."""

from __future__ import annotations

import os
from pathlib import Path


def holders(file: os.stat_result, kind: str) -> list[int]:
    """The pids that hold a lock of `kind` ("FLOCK", "POSIX", "OFDLCK") on `file`; -1 where the kernel names none."""
    wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    pids = []
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == kind and fields[5] == wanted:  # a waiter's line has "->" there
            pids.append(int(fields[4]))
    return pids
