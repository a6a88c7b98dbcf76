"""`aipc.spawn`: starting a worker."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, TypeVarTuple, Unpack, overload

from aipc._child.process import PathName, start
from aipc._child.termination import GRACE
from aipc._io.errors import naming
from aipc._io.loop import backend
from aipc._opening.openers import Opening
from aipc.abc import Channel, StreamChannel
from aipc.exceptions import AddressError

from . import task_pickle
from .workers import channels as worker_channels
from .workers.worker import Worker

if TYPE_CHECKING:
    from aipc.transports.shm.channel import RingChannel

Args = TypeVarTuple("Args")
ResultT = TypeVar("ResultT")

_BOOT = (
    "import pickle, sys\n"
    "with open({task}, 'rb') as file: sys.path[:], task = pickle.load(file)\n"
    "from aipc.processes.workers.main import main\n"
    "main(task)"
)


class WorkerOptions(TypedDict, total=False):
    """The options of `spawn` beside the kind of its channel."""

    loop: Literal["asyncio", "uvloop", "trio"] | None
    grace: float
    cwd: PathName | None
    env: Mapping[str, str] | None


@overload
def spawn(
    function: Callable[[StreamChannel, *Args], Awaitable[ResultT]],
    *args: *Args,
    channel: Literal["stream"] = ...,
    **options: Unpack[WorkerOptions],
) -> Opening[Worker[ResultT, StreamChannel]]: ...


@overload
def spawn(
    function: Callable[[Channel, *Args], Awaitable[ResultT]],
    *args: *Args,
    channel: Literal["seqpacket"],
    **options: Unpack[WorkerOptions],
) -> Opening[Worker[ResultT]]: ...


@overload
def spawn(
    function: Callable[[RingChannel, *Args], Awaitable[ResultT]],
    *args: *Args,
    channel: Literal["shm"],
    **options: Unpack[WorkerOptions],
) -> Opening[Worker[ResultT, RingChannel]]: ...


def spawn(
    function: Callable[[Any, *Args], Awaitable[Any]], *args: *Args, channel: str = "stream", **options: Unpack[WorkerOptions]
) -> Opening[Worker[Any, Any]]:
    """Start a Python child that runs `await function(channel, *args)`: `async with aipc.spawn(work, 5) as worker`, or await it.

    The child is a fresh interpreter, never a fork of this one. `worker.channel` is connected to the function's `channel`. In the
    worker SIGTERM cancels the function, unless the function receives SIGTERM itself; the end of this process cancels it, too.
    Ctrl-C does nothing there.

    Leaving the block ends the stream to the worker, waits `grace` seconds, sends SIGTERM, waits `grace` seconds more, and sends
    SIGKILL. If an exception or a cancellation leaves the block, it begins with SIGTERM. If the function raised, or the worker died
    by itself, leaving the block raises as `worker.result()` does.

    Args:
        function: An async function at the top of a module, or of the main script.
        *args: Its arguments after the channel; they must be picklable.
        channel: The kind of channel, as for `channel_pair`: "stream" or "seqpacket", which also carry descriptors, or
            "shm", for large messages.
        **options: How to run the worker.

            - loop: "asyncio", "uvloop" or "trio" (default: the loop that runs here).
            - grace: Seconds that the worker has to end by itself, and again after SIGTERM (default: 5).
            - cwd: The worker's working directory.
            - env: The worker's environment.

    Raises:
        TypeError: Before anything is started: `function` or `args` cannot be pickled.
        AddressError: An unknown kind of channel, or loop.

    Cancelled: nothing was started, because nothing is awaited.
    """
    return opening(function, args, numbered=False, channel=channel, **options)


def opening(
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    *,
    numbered: bool,
    channel: str = "stream",
    loop: str | None = None,
    grace: float = GRACE,
    cwd: PathName | None = None,
    env: Mapping[str, str] | None = None,
) -> Opening[Worker[Any, Any]]:
    """As `spawn`. `numbered`: with a number in front of each message, for a pool."""
    if task_pickle.reading_main:
        raise RuntimeError(
            "the main script starts a worker while a worker reads it, to find a function in it. Put what the script does below "
            "`if __name__ == '__main__':`, and leave the functions above it"
        )
    call = task_pickle.pack_call(function, args)
    worker_channels.check_kind(channel)
    if loop is not None and loop not in backend.NAMES:
        raise AddressError(f"spawn(loop={loop!r}): must be one of {', '.join(backend.NAMES)}")
    name = f"worker ({task_pickle.called(function)})"

    async def opened() -> Worker[Any, Any]:
        kind = worker_channels.Kind(channel, numbered)
        with naming(name):
            return _start(call, name, kind, loop or backend.running_name(), grace, {"cwd": cwd, "env": env})

    return Opening(opened, name)


def _start(
    call: bytes, name: str, kind: worker_channels.Kind, loop: str, grace: float, options: dict[str, Any]
) -> Worker[Any, Any]:
    with ExitStack() as theirs, ExitStack() as failed:
        ours, other = worker_channels.sockets(kind)
        theirs.callback(other.close)
        failed.callback(ours.close)
        report = task_pickle.memfd("aipc worker's report")
        failed.callback(os.close, report)
        main = task_pickle.main_script() if task_pickle.needs_main(call) else {}
        task = task_pickle.WorkerTask(call, sys.argv, main, loop, *kind, other.fileno(), report, os.getpid())
        told = task_pickle.memfd("aipc worker's task", pickle.dumps((sys.path, tuple(task))))
        theirs.callback(os.close, told)
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
        command = [sys.executable, *flags, "-c", _BOOT.format(task=told)]
        channel = worker_channels.parents_end(kind, ours, name)
        failed.callback(channel.close)
        child = start(command, name, pass_fds={fd: fd for fd in (other.fileno(), report, told)}, **options)
        failed.pop_all()
    face = worker_channels.asking(channel) if kind.numbered else channel
    return Worker(child, channel, face, report, f"{name}, process {child.pid}", grace)
