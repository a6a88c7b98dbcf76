"""A Python child that runs an async function."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self

import anyio

from aipc._child.members import ChildMembers
from aipc._child.process import Child
from aipc._child.termination import terminate
from aipc._io import fork
from aipc._io.loop import backend
from aipc._texts.shown import Fact, shown
from aipc.abc import Channel
from aipc.transports.base import TransportChannel

from .. import task_pickle
from . import channels as worker_channels

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar

ResultT_co = TypeVar("ResultT_co", default=Any, covariant=True)
ChannelT_co = TypeVar("ChannelT_co", bound=Channel, default=Channel, covariant=True)


class Worker(ChildMembers, Generic[ResultT_co, ChannelT_co]):
    """A Python child that runs an async function, and a channel to it. Made by `aipc.spawn`; leaving its block ends it.

    `Worker[int]`: its function returns an int. `Worker[int, RingChannel]`: its channel also is one of shared memory.

    Its `returncode` is 0 if the function returned, and 1 if it raised; `sys.exit(n)` and `os._exit(n)` there choose another one, which
    is no error when the block is left. SIGTERM cancels the function.

    When the worker dies, its channel ends, even if a grandchild still holds the other end: no task waits for ever.

    In a forked child closing does nothing, and every other call raises ForkedError.
    """

    __slots__ = (
        "_asked",
        "_error",
        "_exited",
        "_generation",
        "_grace",
        "_name",
        "_report",
        "_told",
        "_transport",
        "_value",
        "channel",
        "child",
    )

    def __init__(
        self, child: Child, transport: TransportChannel, channel: ChannelT_co, report: int, name: str, grace: float
    ) -> None:
        self.child: Child = child
        self._transport = transport  # the transport of `channel`, or `channel` itself
        self._generation = fork.generation
        self._report = report
        self._name = name
        self._grace = grace
        self._told = False  # whether the caller knows how it ended, or asked for its end
        self._asked = False
        self._exited = False  # by an exit status that its function chose
        self._value: Any = None
        self._error: Exception | None = None
        self.channel: ChannelT_co = channel
        backend.start_soon(self._watch)

    async def _watch(self) -> None:
        await self.child.wait()
        worker_channels.hang_up(self._transport)

    def end_stream(self) -> None:
        """End the stream to the worker: it still receives what was sent. A plain `send_eof`, for all kinds."""
        self._check()
        worker_channels.end_stream(self._transport)

    async def wait(self) -> int:
        """Wait until the worker has ended by itself; return its `returncode`. Cancelled: nothing happened."""
        self._check()
        return await self.child.wait()

    async def result(self) -> ResultT_co:
        """Wait until the worker has ended; return the result of its function.

        If that raised: its error, with the worker's traceback as `__cause__`; WorkerFailed if the error can't be pickled;
        WorkerDied if the worker was killed or cancelled, or has left by an exit status of its own. Cancelled: nothing happened.
        """
        await self.wait()
        self._told = True
        self._read_report()
        if self._error is not None:
            raise self._error
        value: ResultT_co = self._value
        return value

    @property
    def error(self) -> Exception | None:
        """The error that `result()` raises. None while the worker runs, and if its function returned."""
        if self.child.returncode is not None:
            self._read_report()
        return self._error

    def _read_report(self) -> None:
        if self._report >= 0:
            with open(self._report, "rb") as file:
                self._report = -1
                file.seek(0)
                report = file.read()
            self._value, self._error = task_pickle.unpack(report, self._name, self.outcome)
            known = self.usage is not None and self.returncode is not None
            self._exited = report == task_pickle.BEGUN and known and (self.returncode or 0) >= 0

    def send_signal(self, signum: int) -> None:
        """Send a signal; nothing if the worker has ended. SIGTERM cancels its function; the worker ignores SIGINT."""
        self._check()
        self._asked = True
        self.child.send_signal(signum)

    async def aclose(self) -> None:
        """End the stream to the worker, wait `grace` seconds, send SIGTERM, wait `grace` seconds, send SIGKILL. Idempotent.

        Cancelled: sends SIGTERM at once, and does the rest as usual. No process is left.
        """
        await self._end(gently=True)

    async def _end(self, *, gently: bool) -> None:
        if self._forked:
            return
        self._asked |= not gently
        try:
            await terminate([self.child], self.end_stream, self._grace, gently=gently)
        finally:
            self._read_report()
            await self.channel.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gone = isinstance(error, (anyio.EndOfStream, anyio.BrokenResourceError))  # the worker is ending, and may say why
        await self._end(gently=error is None or gone)
        if self._error is None or self._told or self._forked:
            return
        if error is None:
            if not (self._asked or self._exited or self.child.forced or self.returncode == -signal.SIGTERM):
                raise self._error
        elif gone:
            error.add_note(f"{self._name} had ended: {self._error!r}{self._error.__cause__ or ''}")

    @property
    def _forked(self) -> bool:
        return self._generation != fork.generation

    def _check(self) -> None:
        fork.check(self._generation, self._name)

    def __repr__(self) -> str:
        return shown(self, self._facts)

    def _facts(self) -> Iterator[Fact]:
        yield self._name
        yield f"pid {self.pid}"
        yield lambda: self.child.outcome
