"""`aipc doctor`: the kernel's limits, its optional features, namespaces and leftovers."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

import aipc
from aipc._extras import install_command
from aipc._sys import membarrier, probes
from aipc._sys.native import native
from aipc._sys.proc import file_locks
from aipc._sys.sysv import primitives, tables

from .. import table
from . import objects
from .doctor_redis import server_findings
from .finding import Finding

_LIMITS = (
    ("fs/mqueue/msg_max", "messages of a new POSIX queue"),
    ("fs/mqueue/msgsize_max", "bytes of a POSIX message"),
    ("fs/mqueue/queues_max", "POSIX queues"),
    ("kernel/msgmax", "bytes of a System V message"),
    ("kernel/msgmnb", "bytes of a System V queue"),
    ("kernel/msgmni", "System V queues"),
    ("kernel/sem", "System V semaphores: of a set, in all, of an operation, sets"),
    ("kernel/shmmni", "System V segments"),
    ("net/core/somaxconn", "connections that wait for a listener"),
    ("net/unix/max_dgram_qlen", "datagrams that wait at a Unix socket"),
    ("fs/pipe-max-size", "bytes of a pipe, at most"),
)
_PROCESS_LIMITS = (
    (resource.RLIMIT_NOFILE, "open files", "ulimit -n"),
    (getattr(resource, "RLIMIT_SIGPENDING", 11), "queued signals", "ulimit -i"),
    (getattr(resource, "RLIMIT_MSGQUEUE", 12), "bytes of POSIX queues", "ulimit -q"),
)
_NATIVE_ADVICE = "quicker for small messages if installed with a C compiler and Python's headers"
_FIRST_IPC, _FIRST_PID = 0xEFFFFFFF, 0xEFFFFFFC
"""The inodes of the initial namespaces (the kernel's PROC_IPC_INIT_INO and PROC_PID_INIT_INO)."""


def doctor(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="Something on a Redis server, which is checked instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check limits, features, leftovers; or a Redis server.

    Ends with 1 if a feature is missing. What that costs stands below it.
    """
    findings = [*server_findings(url)] if url else [*_limits(), *_features(), *_namespaces(), *_leftovers()]
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        _show(findings)
    raise typer.Exit(1 if any(finding.good is False for finding in findings) else 0)


def _show(findings: list[Finding]) -> None:
    subject = ""
    for finding in findings:
        if finding.subject != subject:
            subject = finding.subject
            print(subject)
        mark = {True: "ok", False: "NO", None: ""}[finding.good]
        print(*table.wrapped(f"  {mark:2} {finding.name:24} {finding.value}".rstrip(), indent=30), sep="\n")
        if finding.good is not True and finding.advice:
            print(*table.wrapped(f"       {finding.advice}", indent=7), sep="\n")


def _limits() -> Iterator[Finding]:
    for path, what in _LIMITS:
        with suppress(OSError):
            value = " ".join(Path("/proc/sys", path).read_text().split())
            yield Finding("Limits: sysctl -w NAME=VALUE changes them", path.replace("/", "."), value, None, what)
    for number, what, how in _PROCESS_LIMITS:
        limits = ["unlimited" if one == resource.RLIM_INFINITY else str(one) for one in resource.getrlimit(number)]
        yield Finding("Limits of a process: soft and hard", how, " ".join(limits), None, what)


def _features() -> Iterator[Finding]:
    checks: tuple[tuple[str, Callable[[], object], str], ...] = (
        ("pidfd_open", lambda: os.close(os.pidfd_open(os.getpid())), "children, workers and job queues need it (Linux 5.3)"),
        ("memfd_create", lambda: os.close(os.memfd_create("aipc")), "shm: and workers need it"),
        ("timerfd", lambda: _present("timerfd_create"), "waits that poll round up to a millisecond"),
        ("membarrier", lambda: _needed(membarrier.registered()), "each message over shm: costs a system call"),
        (primitives.DIRECTORY, _writable_shm, "no POSIX shared memory or semaphores; waits poll, instead of being called"),
        ("/dev/mqueue", lambda: os.listdir("/dev/mqueue"), "POSIX queues are not listed: mount -t mqueue none /dev/mqueue"),
        ("/proc/locks", lambda: _needed(file_locks.complete()), "not every holder of a file's lock is seen"),
        ("signalfd", lambda: _present("signalfd"), "no details=True for signals, and no signal: channels"),
    )
    for name, check, advice in checks:
        try:
            check()
        except (OSError, AttributeError, LookupError) as error:
            yield Finding("Features", name, getattr(error, "strerror", "") or str(error), False, advice)
        else:
            yield Finding("Features", name, "", True, advice)
    yield Finding("Features", "native", "C" if native else "Python", None, "" if native else _NATIVE_ADVICE)
    disabled = ", ".join(sorted(feature for feature in probes.FEATURES if not probes.enabled(feature)))
    yield Finding("Features", "AIPC_DISABLE", disabled or "none", None, "")
    for module, extra in (("uvloop", "uvloop"), ("trio", "trio"), ("msgspec", "services")):
        there = importlib.util.find_spec(module) is not None
        yield Finding("Features", module, "installed" if there else "missing", None, "" if there else install_command(extra))


def _present(name: str) -> None:
    if getattr(ctypes.CDLL(None), name, None) is None:
        raise LookupError("missing")


def _needed(there: object) -> None:
    if not there:
        raise LookupError("not available")


def _writable_shm() -> None:
    os.close(os.open(primitives.DIRECTORY, os.O_TMPFILE | os.O_RDWR, 0o600))  # a file without a name


def _namespaces() -> Iterator[Finding]:
    for name, first, what in (
        ("ipc", _FIRST_IPC, "System V objects and POSIX queues are this namespace's only"),
        ("pid", _FIRST_PID, "processes outside have no number here"),
    ):
        number = os.stat(f"/proc/self/ns/{name}").st_ino
        own = number != first
        yield Finding("Namespaces", name, f"{number} ({'a container' if own else 'initial'})", None, what if own else "")
    blocked = sorted(signum.name for signum in map(_named, signal.pthread_sigmask(signal.SIG_BLOCK, [])) if signum)
    yield Finding("Namespaces", "blocked signals", ", ".join(blocked) or "none", None, "")


def _named(signum: int) -> signal.Signals | None:
    try:
        return signal.Signals(signum)
    except ValueError:
        return None


def _leftovers() -> Iterator[Finding]:
    stale = [*objects.stale_objects([])]
    yield Finding("Leftovers", "ownerless objects", str(len(stale)), None, "aipc remove --stale" if stale else "")
    keys = {f"{row['uid']}-{row['key']:08x}" for row in tables.rows("sysv-sem")}
    links = [path for path in Path(primitives.DIRECTORY).glob(f"{primitives.PREFIX}*") if path.is_symlink()]
    dead = [path.name for path in links if path.name.removeprefix(primitives.PREFIX) not in keys]
    advice = f"the sets are gone: rm {primitives.DIRECTORY}/{dead[0]} ..." if dead else ""
    yield Finding("Leftovers", "names of primitives", str(len(dead)), None, advice)
    kinds = [one.kind for one in aipc.list_objects()]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    yield Finding("Leftovers", "objects in all", counts or "none", None, "")
