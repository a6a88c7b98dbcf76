"""The System V objects of this namespace, as ipcs(1) shows them: /proc/sysvipc (proc_sysvipc(5))."""

from __future__ import annotations

from pathlib import Path

KINDS = {"sysv-mq": "msg", "sysv-sem": "sem", "sysv-shm": "shm"}
"""aipc's names for them, and the kernel's."""
_IDENTIFIERS = {"sysv-mq": "msqid", "sysv-sem": "semid", "sysv-shm": "shmid"}


def rows(kind: str) -> list[dict[str, int]]:
    """Return each object of a kind by the kernel's column names; `id` is its number, `key` has 32 bits, `perms` is a number."""
    lines = Path(f"/proc/sysvipc/{KINDS[kind]}").read_text().splitlines()
    names = lines[0].split()
    found = []
    for line in lines[1:]:
        fields = dict(zip(names, line.split(), strict=True))
        row = {name: int(value, 8 if name == "perms" else 10) for name, value in fields.items()}
        row["id"] = row[_IDENTIFIERS[kind]]
        row["key"] &= 0xFFFFFFFF
        found.append(row)
    return found


def row(kind: str, identifier: int) -> dict[str, int] | None:
    """Return the object of that number; None if it is gone."""
    return next((row for row in rows(kind) if row["id"] == identifier), None)
