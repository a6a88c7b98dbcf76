"""Unix sockets that are bound to paths: /proc/net/unix (proc_pid_net(5))."""

from __future__ import annotations

from pathlib import Path


def bound_sockets() -> dict[str, list[int]]:
    """The inodes of the sockets of each absolute path; sockets that a listener has accepted have its path, too."""
    paths: dict[str, list[int]] = {}
    table = Path("/proc/net/unix").read_text(errors="surrogateescape")
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7].startswith("/"):
            paths.setdefault(fields[7], []).append(int(fields[6]))
    return paths
