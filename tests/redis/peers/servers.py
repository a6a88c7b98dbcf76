"""A server of the test's own, on a Unix socket in a directory of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache, partial
from pathlib import Path

from aipc._sys.processes import die_with

from ...peers import LASTING, require


class RedisServer:
    """redis-server, started and stopped; its data stay in the directory."""

    def __init__(self, directory: Path, *options: str, config: str = "") -> None:
        """`config`: a file, which a sentinel needs; the server writes it, too."""
        require("redis-server")
        self.directory = directory
        self.path = f"{directory}/redis.sock"
        self.options = options
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, name: str = "it", **options: object) -> str:
        return f"redis+unix:{self.path}?name={name}" + "".join(f"&{key}={value}" for key, value in options.items())

    def start(self) -> None:
        with open(f"{self.directory}/log", "ab") as log:
            self.process = subprocess.Popen(
                [
                    "redis-server",
                    *filter(None, [self.config]),
                    "--port",
                    "0",
                    "--unixsocket",
                    self.path,
                    "--dir",
                    str(self.directory),
                    "--save",
                    "",
                    *self.options,
                ],
                stdout=log,
                stderr=log,
                preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509 - it makes system calls only
            )
        self.command("PING")

    def command(self, *words: str) -> bytes:
        """Ask it, with the plain protocol: the first piece of the answer."""
        end = time.monotonic() + 20
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(self.path)
                    sock.sendall(
                        b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(w.encode()), w.encode()) for w in words)])
                    )
                    answer = sock.recv(65536)
            except OSError:
                answer = b"-LOADING"
            if not answer.startswith(b"-LOADING"):
                return answer
            assert time.monotonic() < end, Path(self.directory, "log").read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        """As the power switch does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.kill()
        if os.path.exists(self.path):
            os.unlink(self.path)


@cache
def shared_server() -> RedisServer:
    """One for all tests that do no harm to it; it ends with this process."""
    directory = Path(tempfile.mkdtemp())
    server = RedisServer(directory)
    assert server.process is not None
    LASTING.add(server.process.pid)
    atexit.register(shutil.rmtree, directory)
    atexit.register(server.end)
    return server
