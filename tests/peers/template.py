"""A process that has imported aipc and the loops, and forks: a peer costs some milliseconds, where an interpreter's start costs 200.

A test asks it over a SEQPACKET socket: to start a process, with its standard streams (SCM_RIGHTS, unix(7)), or to reap one.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

_MOST = 1 << 18  # bytes of a request
_STREAMS = 3
_CONDITIONS = ("Umask", "Uid", "Gid", "SigBlk", "SigIgn", "CapEff", "Seccomp", "Cpus_allowed")
_COMMAND = "import sys; from tests.peers.template import run, serve; run(serve(int(sys.argv[1])))"


def conditions() -> list[object]:
    """What a process takes from the one that starts it, other than its working directory and its streams (proc(5))."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limits = Path("/proc/self/limits").read_text()
    spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("ipc", "mnt", "net", "pid_for_children", "user")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return [environment, [status.get(name) for name in _CONDITIONS], limits, spaces]


class Template:
    """The process, and the way to it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(60)
        self._conditions = conditions()
        with theirs:
            command = [sys.executable, "-c", _COMMAND, str(theirs.fileno())]
            here = Path(__file__).parents[2]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd=here)
        self.pid = self._process.pid

    def suits(self) -> bool:
        """Whether a process that it starts has what one that this process starts would have."""
        return conditions() == self._conditions

    def start(self, code: str, arguments: tuple[str, ...], directory: str, streams: list[int]) -> int:
        """The process's number. It is a child of the template."""
        request = json.dumps({"code": code, "arguments": arguments, "directory": directory}).encode()
        socket.send_fds(self._socket, [request], streams)
        return int(self._socket.recv(_MOST))

    def reap(self, pid: int) -> int:
        """How a process that has ended ended, as Popen.returncode."""
        self._socket.sendall(json.dumps({"reap": pid}).encode())
        return int(self._socket.recv(_MOST))

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def serve(number: int) -> str:
    """Answer requests until there is nobody to ask; in each process that is started, return the code that it is to run."""
    _import_all()
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=number) as asking:
        while True:
            request, streams, _, _ = socket.recv_fds(asking, _MOST, _STREAMS)
            if not request:
                sys.exit()
            wanted = json.loads(request)
            if "reap" in wanted:
                asking.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(wanted["reap"], 0)[1]))
                continue
            if "aipc.cli" in wanted["code"]:  # which few tests need, and which takes long
                _import_command_line()
            if pid := os.fork():
                asking.sendall(b"%d" % pid)
                _close(streams)
            else:
                break
    _become(wanted, streams)
    return str(wanted["code"])


def _import_all() -> None:
    """The loops, and aipc without its command line and what is an extra that is not installed."""
    for name in ("trio", "uvloop", "anyio._backends._asyncio", "anyio._backends._trio"):
        importlib.import_module(name)
    aipc = importlib.import_module("aipc")
    for module in pkgutil.walk_packages(aipc.__path__, "aipc."):
        if not module.name.startswith(("aipc.cli", "aipc.__main__")):
            with suppress(ImportError):
                importlib.import_module(module.name)


def _import_command_line() -> None:
    """With what it imports while it reads its arguments."""
    commands = importlib.import_module("aipc.cli.commands")
    importlib.import_module("typer.main").get_command(commands.app).make_context("aipc", ["doctor"])


def _become(wanted: dict[str, object], streams: list[int]) -> None:
    """The process that was asked for."""
    os.chdir(str(wanted["directory"]))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    _close(streams)
    sys.argv[1:] = wanted["arguments"]  # type: ignore[assignment, call-overload]


def run(code: str) -> None:
    """As `python -c`; but a process that ends well does not take its modules apart, which would cost 25 ms."""
    status = 0
    try:
        exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))
    except SystemExit as exiting:
        if not isinstance(exiting.code, int | None):
            raise
        status = exiting.code or 0
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _close(streams: list[int]) -> None:
    for stream in streams:
        os.close(stream)
