"""Several programs together: started in order, stopped in reverse order, told of signals."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any

import anyio
import anyio.abc

from aipc import systemd
from aipc.exceptions import AddressError, ProgramFailed
from aipc.processes.changes import Changes
from aipc.signals import SignalReceiver, open_signal_receiver

from .keeper import Keeper
from .output import OnLine
from .program import Program, ProgramStatus

_logger = logging.getLogger("aipc")
STOPPING = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*STOPPING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Supervisor:
    """Running programs. Made by `aipc.supervise`; leaving its block stops them all."""

    def __init__(self, keepers: Sequence[Keeper], changes: Changes, tasks: anyio.abc.TaskGroup, grace: float) -> None:
        self._keepers = {keeper.program.name: keeper for keeper in keepers}
        self._changes = changes
        self._tasks = tasks
        self._patience = anyio.CancelScope(deadline=float("inf"))
        self._grace = grace
        self._stopping = False

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    @property
    def forced(self) -> bool:
        """Whether a program needed SIGKILL."""
        return any(keeper.forced for keeper in self._keepers.values())

    @property
    def exit_code(self) -> int:
        """For `sys.exit`: 0, or 1 if a program has failed for good or needed SIGKILL."""
        return int(self.forced or any(keeper.state == "failed" for keeper in self._keepers.values()))

    def status(self) -> dict[str, ProgramStatus]:
        """What is known about each program now, by name, in the order of the list."""
        return {name: keeper.status() for name, keeper in self._keepers.items()}

    async def wait_ready(self) -> None:
        """Wait until every program was ready. Cancelled: nothing happened.

        ProgramFailed if one ended before it was ready, although it may be restarted. ClosedResourceError if the supervisor stops.
        """
        keepers = self._keepers.values()
        await self._changes.until(
            lambda: self._stopping or all(keeper.came for keeper in keepers) or any(keeper.failure for keeper in keepers)
        )
        if self._stopping:
            raise anyio.ClosedResourceError("the supervisor is stopping")
        for name, keeper in self._keepers.items():
            if keeper.failure is not None:
                raise ProgramFailed(f"program {name} ended before it was ready: {keeper.failure}")

    async def wait(self) -> None:
        """Wait until all programs have ended and none will be restarted, by themselves or after a stop. Cancelled: nothing happened."""
        await self._changes.until(lambda: all(keeper.over for keeper in self._keepers.values()))

    def stop(self) -> None:
        """Begin to stop, as SIGTERM does: the last program first, each after the one behind it has ended. A second call kills all."""
        if self._stopping:
            self._patience.cancel()
            return
        self._stopping = True
        self._changes.tell()
        _tell(systemd.stopping)
        self._tasks.start_soon(self._stop_all)

    def restart(self, name: str) -> None:
        """Stop a program and start it again at once, also if it pauses. It does not count as a restart. Nothing if it is given up."""
        self._keeper(name).restart()

    def send_signal(self, signum: int, name: str | None = None) -> None:
        """Send a signal to one program, or to all that run; not to their children."""
        for keeper in self._keepers.values() if name is None else [self._keeper(name)]:
            keeper.send_signal(signum)

    def _keeper(self, name: str) -> Keeper:
        if name not in self._keepers:
            raise KeyError(f"there is no program {name!r}; there are {', '.join(self._keepers)}")
        return self._keepers[name]

    async def start_all(self) -> None:
        """Start each program when the one before it is ready, or given up."""
        for keeper in self._keepers.values():
            self._tasks.start_soon(keeper.keep)
            await self._changes.until(partial(self._may_go_on, keeper))
            if self._stopping:
                return
        _tell(systemd.ready)

    def _may_go_on(self, keeper: Keeper) -> bool:
        return self._stopping or keeper.came or keeper.over

    async def _stop_all(self) -> None:
        self._patience.deadline = anyio.current_time() + self._grace
        with self._patience:
            for keeper in reversed(self._keepers.values()):
                keeper.stop()
                await self._changes.until(partial(_is_over, keeper))
        for keeper in self._keepers.values():
            keeper.kill()

    async def handle_signals(self, received: SignalReceiver) -> None:
        """Stop at SIGTERM and SIGINT; forward the others."""
        async for info in received:
            if info.signum in STOPPING:
                self.stop()
            else:
                self.send_signal(info.signum)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(f'{one.name}:{one.state}' for one in self.status().values())}>"


class Supervising:
    """A supervisor to be run: `async with` gives a Supervisor; awaiting it runs until all has ended, and returns the exit code."""

    def __init__(self, block: Any) -> None:
        self._block = block

    async def __aenter__(self) -> Supervisor:
        supervisor: Supervisor = await self._block.__aenter__()
        return supervisor

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._block.__aexit__(kind, error, trace)

    def __await__(self) -> Generator[Any, Any, int]:
        return self._run().__await__()

    async def _run(self) -> int:
        async with self as supervisor:
            await supervisor.wait()
        return supervisor.exit_code


def supervise(
    programs: Iterable[Program], *, on_line: OnLine | None = None, signals: Iterable[int] = SIGNALS, grace: float = 30.0
) -> Supervising:
    """Run programs, restart those that end, and stop them in order: `async with aipc.supervise([...]) as supervisor`, or await it.

    They start in the order of the list, each when the one before it is ready. Leaving the block stops them in reverse order; left
    by an error or a cancellation, all get SIGTERM at the same time. Each program leads a process group, which ends with it. When
    this returns or raises, no process of these groups is left. If this process is killed, so are the programs.

    Args:
        programs: The programs, each with a name of its own.
        on_line: A plain or async function that is called with each `ProgramLine` of their stdout and stderr. While it runs, that
            stream of that program is not read. By default the programs write where this process writes.
        signals: The signals to handle, in the main thread: SIGTERM and SIGINT stop, a second one kills; others are forwarded to
            the programs. `()` for none.
        grace: Seconds that the whole stop may take; then what still runs gets SIGKILL.

    Raises:
        AddressError: Two programs have one name, or there is none.
        UnsupportedOperation: `signals` outside of the main thread.

    systemd is told READY=1 when all programs are ready, and STOPPING=1. Cancelled: all programs have ended.
    """
    chosen = list(programs)
    names = [program.name for program in chosen]
    if not names or len(set(names)) < len(names):
        raise AddressError(f"supervise({names}): must be one program or more, each with a name of its own")
    return Supervising(_supervised(chosen, on_line, tuple(signals), grace))


@asynccontextmanager
async def _supervised(
    programs: Sequence[Program], on_line: OnLine | None, signals: Sequence[int], grace: float
) -> AsyncIterator[Supervisor]:
    failed: BaseException | None = None
    changes = Changes()
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="aipc-"))  # only this user may enter it
        keepers = [
            Keeper(program, changes, on_line, os.path.join(directory, str(number)) if program.notify else None)
            for number, program in enumerate(programs)
        ]
        received = await stack.enter_async_context(open_signal_receiver(*signals)) if signals else None
        async with anyio.create_task_group() as tasks:
            supervisor = Supervisor(keepers, changes, tasks, grace)
            if received is not None:
                tasks.start_soon(supervisor.handle_signals, received)
            tasks.start_soon(supervisor.start_all)
            try:
                yield supervisor
                if not supervisor.is_stopping:
                    supervisor.stop()
                await supervisor.wait()
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - raised below, outside of an exception group
                failed = error
            tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


def _is_over(keeper: Keeper) -> bool:
    return keeper.over


def _tell(what: Callable[[], object]) -> None:
    """Call `what`: an unreachable manager is no reason to stop."""
    try:
        what()
    except (OSError, anyio.WouldBlock) as error:
        _logger.warning("systemd could not be told: %r", error)
