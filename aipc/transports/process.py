"""A child's standard input and output: `exec:sort -u`, and the channel of `aipc.popen`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from aipc._address import Address
from aipc._child.members import ChildMembers
from aipc._child.pipes import ChildPipes
from aipc._child.process import Child, Command, start
from aipc._child.termination import GRACE, terminate
from aipc._io.handle import FileHandle
from aipc._texts.shown import Fact
from aipc.abc import ChannelAttribute
from aipc.exceptions import AddressError
from aipc.wire.framing import MAX_MESSAGE_SIZE, Framing
from aipc.wire.framing import framing as framing_named

from .byte_stream import ByteStreamChannel
from .common_options import can_spin

MODES = ("r", "w", "r+")


class ProcessChannel(ByteStreamChannel, ChildMembers):
    """A child process: its output is received, and what is sent is its input. Closing the channel ends and reaps the child."""

    __slots__ = ("_grace", "child", "stderr")

    def __init__(
        self,
        child: Child,
        reader: FileHandle | None,
        writer: FileHandle | None,
        framing: Framing,
        grace: float,
        stderr: ByteStreamChannel | None = None,
    ) -> None:
        super().__init__(reader, writer, framing)
        self.child: Child = child
        self.stderr: ByteStreamChannel | None = stderr
        """The child's errors, to be received, if `stderr=subprocess.PIPE` was asked for. It is closed together with this channel."""
        self._grace = grace

    def close(self) -> None:
        super().close()
        if self.stderr is not None:
            self.stderr.close()

    async def wait(self) -> int:
        """Wait until the child has ended by itself; return its `returncode`. A child that reads needs `send_eof` first.

        Cancelled: nothing happened.
        """
        return await self.child.wait()

    def send_signal(self, signum: int) -> None:
        """Send the child a signal; nothing if it has ended (pidfd_send_signal(2)). AccessDenied if it now runs as another user.

        If the child leads a process group, all its members get the signal.
        """
        self.child.send_signal(signum, tree=True)

    async def aclose(self) -> None:
        """Close the pipes, wait `grace` seconds, send SIGTERM, wait `grace` seconds, send SIGKILL. Idempotent.

        Cancelled: sends SIGTERM at once, and does the rest as usual. No process is left.
        """
        await terminate([self.child], self.close, self._grace, gently=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await terminate([self.child], self.close, self._grace, gently=error is None)

    def _facts(self) -> Iterator[Fact]:
        yield from super()._facts()
        yield lambda: f"pid {self.pid} {self.outcome}"

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {
            ChannelAttribute.descriptor: lambda: next(iter(self._handles())).fd,
            ChannelAttribute.max_message_size: lambda: self._framing.limit,
        }


def framing_of(name: str, max_message_size: int | None) -> Framing:
    """The framing of that name. Raw chunks have no limit unless one is given, because they are not messages."""
    return framing_named(name, max_message_size or (sys.maxsize if name == "none" else MAX_MESSAGE_SIZE))


def launch(
    pipes: ChildPipes,
    command: Command,
    mode: str,
    name: str,
    framing: Framing,
    grace: float = GRACE,
    *,
    errors: ByteStreamChannel | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    **options: Any,
) -> ProcessChannel:
    """Start `command` with the pipes that `mode` names; its other streams are `stdin` and `stdout`, by default this process's.

    `errors` receives what the child writes to the pipe that `options` have as its stderr. Errors and the other `options` are those of `start`. AddressError for an unknown mode, or a stream that is both a pipe and redirected.
    """
    if mode not in MODES:
        raise AddressError(f"{name}: mode={mode!r}: must be 'r' (receive its output), 'w' (send its input) or 'r+' (both)")
    for what, given, piped in (("stdin", stdin, mode != "r"), ("stdout", stdout, mode != "w")):
        if piped and given is not None:
            raise AddressError(f"{name}: mode={mode!r} makes {what} a pipe; it can't be redirected, too")
    reader = writer = None
    if mode != "r":
        stdin, writer = pipes.to_child()
    if mode != "w":
        stdout, reader = pipes.from_child()
    child = start(command, name, stdin=stdin, stdout=stdout, **options)
    return ProcessChannel(child, reader, writer, framing, grace, errors)


@can_spin
async def connect(
    address: Address, *, framing: str = "u32", max_message_size: int | None = None, shell: bool = False
) -> ProcessChannel:
    """Start a program, and exchange messages over its standard input and output. Errors as for `start`. Cancelled: not started."""
    if address.authority:
        raise address.error("needs a command, as in exec:sort -u or exec:/usr/bin/sort -u")
    chosen = framing_of(framing, max_message_size)
    with ChildPipes(address.url) as pipes:
        return launch(pipes, address.path, "r+", address.url, chosen, shell=shell)
