"""Pipelines: `cat | sort | uniq`, with plain pipes between the children."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from aipc._child.pipes import ChildPipes
from aipc._child.process import Child, Command, called, start
from aipc._child.termination import signal_all, terminate
from aipc._texts.shown import Fact, shown
from aipc.abc import Buffer
from aipc.exceptions import AddressError, UnsupportedOperation
from aipc.transports.pipes.pipe import PipeChannel
from aipc.transports.process import framing_of

from .exchange import exchange
from .redirect import Redirection, redirected


class Pipeline:
    """Children, each of which reads the output of the one before it. Made by `aipc.pipeline`; leaving its block ends them all.

    `stdin` is a channel into the first child, `stdout` a channel out of the last one; None if it was redirected.
    """

    __slots__ = ("_grace", "_pipefail", "_raw", "processes", "stdin", "stdout")

    def __init__(
        self,
        children: Sequence[Child],
        stdin: PipeChannel | None,
        stdout: PipeChannel | None,
        grace: float,
        *,
        raw: bool,
        pipefail: bool,
    ) -> None:
        self.processes: Sequence[Child] = children
        self._grace = grace
        self._raw = raw
        self._pipefail = pipefail
        self.stdin: PipeChannel | None = stdin
        self.stdout: PipeChannel | None = stdout

    @property
    def pids(self) -> list[int]:
        """The process numbers of the children, first to last."""
        return [child.pid for child in self.processes]

    @property
    def returncodes(self) -> list[int | None]:
        """One for each child: None while it runs, then like `returncode` of `aipc.popen`."""
        return [child.returncode for child in self.processes]

    @property
    def returncode(self) -> int | None:
        """The last child's; with `pipefail`, the last one that is not 0. None while a child runs that could still change it."""
        codes = self.returncodes
        if not self._pipefail:
            return codes[-1]
        if None in codes:
            return None
        return next((code for code in reversed(codes) if code), 0)

    @property
    def outcomes(self) -> list[str]:
        """One for each child, like `outcome` of `aipc.popen`."""
        return [child.outcome for child in self.processes]

    @property
    def usages(self) -> list[resource.struct_rusage | None]:
        """One for each child, like `usage` of `aipc.popen`."""
        return [child.usage for child in self.processes]

    async def wait(self) -> list[int]:
        """Wait until all children have ended by themselves; return their `returncodes`. Cancelled: nothing happened."""
        return [await child.wait() for child in self.processes]

    async def communicate(self, data: Buffer = b"") -> bytes:
        """Send `data` and the end of input, and receive all output meanwhile; return it (`b""` if it was redirected).

        The output is held in memory. A child that stops reading early is no error. Cancelled: a part of `data` was sent, stdin
        is closed, and the output so far is lost. The children run until the block is left.
        """
        if not self._raw:
            raise UnsupportedOperation("communicate: needs plain bytes; leave the pipeline's framing at none")
        if len(data) and self.stdin is None:
            raise AddressError("communicate: stdin was redirected, so data cannot be sent to it")
        try:
            (output,) = await exchange(self.stdin, data, self.stdout)
        finally:
            if self.stdin is not None:
                self.stdin.close()
        await self.wait()
        return output or b""

    def send_signal(self, signum: int) -> None:
        """Send a signal to each running child, the last one first: so no child takes another's death for the end of its input."""
        signal_all(self.processes, signum, tree=True)

    def terminate(self) -> None:
        """Send SIGTERM to each running child."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to each running child."""
        self.send_signal(signal.SIGKILL)

    async def aclose(self) -> None:
        """Close our ends, wait `grace` seconds, send SIGTERM, wait `grace` seconds, send SIGKILL. Idempotent.

        Cancelled: sends SIGTERM at once, and does the rest as usual. No process is left.
        """
        await terminate(self.processes, self._let_go, self._grace, gently=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await terminate(self.processes, self._let_go, self._grace, gently=error is None)

    def _let_go(self) -> None:
        for channel in (self.stdin, self.stdout):
            if channel is not None:
                channel.close()

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield ""
        for child in self.processes:
            yield partial(_told, child)


def _told(child: Child) -> str:
    return f"{child.pid} {child.outcome}"


async def start_pipeline(
    commands: Sequence[Command],
    *,
    stdin: Redirection,
    stdout: Redirection,
    stderr: Redirection,
    framing: str,
    max_message_size: int | None,
    grace: float,
    pipefail: bool,
    **options: Any,
) -> Pipeline:
    """Start the children, first to last. If one cannot be started, ends and reaps the earlier ones; the error names the stage."""
    if not commands:
        raise AddressError("pipeline: needs at least one command, as in aipc.pipeline(['ls'], ['wc', '-l'])")
    chosen = framing_of(framing, max_message_size)
    children: list[Child] = []
    try:
        with ChildPipes("pipeline") as pipes:
            theirs, writer = pipes.to_child() if stdin == subprocess.PIPE else (redirected(pipes, "stdin", stdin), None)
            outlet, reader = pipes.from_child() if stdout == subprocess.PIPE else (redirected(pipes, "stdout", stdout), None)
            errors = redirected(pipes, "stderr", stderr)
            for number, command in enumerate(commands, 1):
                following, output = (None, outlet) if number == len(commands) else pipes.pipe()
                name = f"pipeline, stage {number} ({called(command)})"
                children.append(start(command, name, stdin=theirs, stdout=output, stderr=errors, **options))
                theirs = following
    except BaseException:
        await terminate(children, lambda: None, grace, gently=False)
        raise
    return Pipeline(
        children,
        None if writer is None else PipeChannel(writer, chosen, sends=True),
        None if reader is None else PipeChannel(reader, chosen, sends=False),
        grace,
        raw=framing == "none",
        pipefail=pipefail,
    )
