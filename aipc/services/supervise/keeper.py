"""One program of a supervisor: it is started, watched, restarted, and stopped."""

from __future__ import annotations

import logging
import signal
from contextlib import AsyncExitStack

import anyio

from aipc._child.process import Child
from aipc._opening.openers import open_channel
from aipc.abc import Channel
from aipc.processes.backoff import Backoff
from aipc.processes.changes import Changes

from .launch import Started, end, launch
from .output import OnLine, read_lines
from .program import Program, ProgramStatus, State

_logger = logging.getLogger("aipc")
_LAST_LINES = 1.0
"""Seconds to read what a program has left in its pipes: a process that left its group may still hold them."""


class Keeper:
    """Keeps one program running. Only its own task starts and ends processes; other tasks tell it to.

    state       as in `ProgramStatus`
    came        whether it was ready at least once
    failure     why it is not ready: how its last process ended, if that was never ready; None otherwise
    forced      whether a process of it needed SIGKILL
    """

    def __init__(self, program: Program, changes: Changes, on_line: OnLine | None, notify_socket: str | None) -> None:
        self.program = program
        self._changes = changes
        self._on_line = on_line
        self._notify_socket = notify_socket
        self._notified: Channel | None = None
        self._child: Child | None = None
        self._life = anyio.CancelScope()
        self._patience = anyio.CancelScope()
        self._begun = self._stopping = self._again = False
        self._outcome = ""
        self._text = ""
        self._restarts = 0
        self.state: State = "waiting"
        self.came: bool = False
        self.forced: bool = False
        self.failure: str | None = None

    @property
    def over(self) -> bool:
        """Whether it does not run and will not be started."""
        return self.state in ("ended", "failed")

    def status(self) -> ProgramStatus:
        """What is known about it now."""
        pid = None if self._child is None else self._child.pid
        return ProgramStatus(self.program.name, self.state, pid, self._restarts, self._outcome, self._text)

    def stop(self) -> None:
        """Begin to end it for good. A second time: nothing more."""
        if self.over or self._stopping:
            return
        self._stopping = True
        self._enter("stopping" if self._begun else "ended")
        self._life.cancel()

    def restart(self) -> None:
        """End its process as a stop does, and start it again at once, also if it pauses."""
        if not self.over:
            self._again = True
            self._life.cancel()

    def send_signal(self, signum: int) -> None:
        """Send a signal to its process; nothing if it does not run."""
        if self._child is not None:
            self._child.send_signal(signum)

    def kill(self) -> None:
        """Stop it by SIGKILL, with its whole process group."""
        self.stop()
        if self._child is not None:
            self.forced = True
            self._child.send_signal(signal.SIGKILL, tree=True)

    async def keep(self) -> None:
        """Run one process after another, as the program's policy has it, until it is stopped. Cancelled: its process has ended."""
        if self._stopping:
            return
        self._begun = True
        succeeded = False
        try:
            async with AsyncExitStack() as stack:
                if self._notify_socket is not None:
                    self._notified = await stack.enter_async_context(open_channel("unix+dgram:", bind=self._notify_socket))
                    tasks = await stack.enter_async_context(anyio.create_task_group())
                    stack.callback(tasks.cancel_scope.cancel)
                    tasks.start_soon(self._listen, self._notified)
                succeeded = await self._keep()
        except OSError as error:  # of the socket for notifications
            self._outcome = self.failure = str(error)
            _logger.error("program %s cannot be supervised: %s", self.program.name, error)  # noqa: TRY400
        finally:
            self._enter("ended" if succeeded or self._stopping else "failed")

    async def _keep(self) -> bool:
        """Return whether the last process succeeded."""
        program = self.program
        backoff = Backoff(program.backoff, program.backoff_limit, program.healthy_after)
        in_a_row = 0
        while True:
            began = anyio.current_time()
            succeeded = await self._run()
            lived = anyio.current_time() - began
            if self._stopping:
                return succeeded
            if self._again:
                in_a_row = 0
                continue
            _logger.log(logging.INFO if succeeded else logging.WARNING, "program %s ended: %s", program.name, self._outcome)
            if not program.restarts(succeeded=succeeded):
                return succeeded
            in_a_row = 1 if lived >= program.healthy_after else in_a_row + 1
            if program.max_restarts is not None and in_a_row > program.max_restarts:
                _logger.error("program %s is given up after %d restarts in a row", program.name, in_a_row - 1)
                return False
            if not await self._pause(backoff.after(lived)):
                return succeeded

    async def _pause(self, seconds: float) -> bool:
        """Wait before a restart; return False if there will be none."""
        self._enter("pausing")
        with anyio.CancelScope(deadline=anyio.current_time() + seconds) as self._life:
            await anyio.sleep_forever()
        self._restarts += not (self._again or self._stopping)
        return not self._stopping

    async def _run(self) -> bool:
        """Run one process until it has ended; return whether its exit status was 0."""
        self._again = False
        self._drop_notifications()
        self._enter("starting")
        try:
            started = launch(self.program, self._notify_socket, piped=self._on_line is not None)
        except OSError as error:
            self._ended(str(error))
            return False
        self._child = started.child
        try:
            await self._watch(started)
        finally:
            self._child = None
            self.forced |= started.child.forced
            self._ended(started.child.outcome)
        return started.child.returncode == 0

    async def _watch(self, started: Started) -> None:
        """Read the output and wait for the end, of the process and then of its group."""
        async with AsyncExitStack() as stack, anyio.create_task_group() as readers:
            for stream, channel in started.streams.items():
                await stack.enter_async_context(channel)
                assert self._on_line is not None
                readers.start_soon(read_lines, channel, self.program.name, stream, self._on_line)
            try:
                with anyio.CancelScope() as self._life:
                    if not (self._stopping or self._again):
                        await self._live(started.child)
            finally:
                await end(started.child, self.program)
            readers.cancel_scope.deadline = anyio.current_time() + _LAST_LINES

    async def _live(self, child: Child) -> None:
        if not self.program.notify:
            self._ready()
        patience = float("inf") if self.ready_now else self.program.ready_within
        with anyio.CancelScope(deadline=anyio.current_time() + patience) as self._patience:
            await child.wait()
        if self._patience.cancelled_caught:
            _logger.error("program %s was not ready within %g seconds", self.program.name, self.program.ready_within)

    @property
    def ready_now(self) -> bool:
        """Whether the present process is ready."""
        return self.state == "running"

    def _ready(self) -> None:
        if self.state == "starting":
            self.came, self.failure = True, None
            self._patience.deadline = float("inf")
            self._enter("running")

    def _ended(self, outcome: str) -> None:
        self._outcome = outcome
        if self.state == "starting":
            self.failure = outcome
        self._changes.tell()

    def _enter(self, state: State) -> None:
        self.state = state
        self._changes.tell()

    async def _listen(self, channel: Channel) -> None:
        async for datagram in channel:
            self._note(datagram)

    def _note(self, datagram: bytes) -> None:
        """Understand what the program tells by sd_notify(3)."""
        for line in datagram.decode(errors="replace").split("\n"):
            key, _, value = line.partition("=")
            if key == "READY" and value == "1":
                self._ready()
            elif key == "STATUS":
                self._text = value

    def _drop_notifications(self) -> None:
        """Drop what an earlier process has sent."""
        try:
            while self._notified is not None:
                self._notified.receive_nowait()
        except anyio.WouldBlock:
            pass
