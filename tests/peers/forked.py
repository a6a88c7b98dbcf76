"""A process that the template started, with what the tests use of subprocess.Popen."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from .template import Template


class Forked:
    """It stays a zombie until it is waited for, as any child."""

    def __init__(self, template: Template, code: str, arguments: tuple[str, ...], directory: Path | None) -> None:
        theirs, ours = os.pipe()
        outputs, output = os.pipe()
        try:
            self.pid = template.start(code, arguments, str(directory or Path.cwd()), [theirs, output, 2])
        finally:
            os.close(theirs)
            os.close(output)
        self.stdin, self.stdout = os.fdopen(ours, "w"), os.fdopen(outputs)
        self.returncode: int | None = None
        self._template = template
        self._pidfd = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        return self.returncode if self.returncode is not None or not self._ended(0) else self._reap()

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not self._ended(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self._reap() if self.returncode is None else self.returncode

    def _ended(self, timeout: float | None) -> bool:
        return bool(select.select([self._pidfd], [], [], timeout)[0])

    def _reap(self) -> int:
        self.returncode = self._template.reap(self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, None]:
        with suppress(BrokenPipeError), self.stdin:  # it may end without reading all
            self.stdin.write(text)
        got = self.stdout.read()
        self.wait(timeout)
        return got, None

    def close(self) -> None:
        for stream in (self.stdin, self.stdout):
            try:
                stream.close()
            except BrokenPipeError:
                continue  # what was written to it and not flushed is lost, as it has ended
        self.wait()
        os.close(self._pidfd)
