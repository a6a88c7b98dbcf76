"""Processes that sleep in a system call: /proc/PID/task/TID/syscall (proc_pid_syscall(5)), on x86-64 and AArch64.

Needs the permission to trace the process (ptrace(2)); others are left out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_NUMBERS = {
    "x86_64": {65: "semop", 220: "semop", 69: "msgsnd", 70: "msgrcv", 242: "mq_send", 243: "mq_receive"},
    "aarch64": {193: "semop", 192: "semop", 189: "msgsnd", 188: "msgrcv", 182: "mq_send", 183: "mq_receive"},
}


class Sleeper(NamedTuple):
    """A thread that sleeps in `call`; `object` is the number of the System V object, or the queue's descriptor there."""

    pid: int
    call: str
    object: int


def sleepers() -> list[Sleeper]:
    """Every thread that sleeps in semop(2), msgsnd(2), msgrcv(2), mq_send(3) or mq_receive(3)."""
    calls = _NUMBERS.get(os.uname().machine, {})
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError):
                    number, *arguments = Path(f"/proc/{pid}/task/{thread}/syscall").read_text().split()
                    if number.isdecimal() and int(number) in calls:
                        found.append(Sleeper(pid, calls[int(number)], int(arguments[0], 16)))
    return found
