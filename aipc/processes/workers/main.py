"""The worker's side: the code that the new interpreter runs."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from aipc._io.loop import backend
from aipc._sys.processes import die_with
from aipc.abc import Channel
from aipc.signals import SignalReceiver, open_signal_receiver

from .. import task_pickle
from ..answering import AnsweringChannel
from . import channels as worker_channels

_Outcome = task_pickle.Report | SystemExit | None


def main(given: tuple[Any, ...]) -> None:
    """Run the call, and write its report. Never returns.

    The exit status is 0 if the function returned, 1 if it raised; the process dies by SIGTERM if that cancelled the function.
    """
    task = task_pickle.WorkerTask(*given)
    for fd in (task.channel, task.report):
        os.set_inheritable(fd, False)
    die_with(task.parent, signal.SIGTERM)
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the whole group: the parent decides what it means
    sys.argv = task.argv
    try:
        report = _read_main(task) or _run(task)
    except SystemExit:
        raise
    except BaseException:
        task_pickle.rewrite(task.report, b"")  # no exit status that the function chose
        raise
    if report is None:
        _die_by_sigterm()
    else:
        task_pickle.rewrite(task.report, report.data)
        sys.exit(report.status)


def _read_main(task: task_pickle.WorkerTask) -> task_pickle.Report | None:
    """Run the main script, if something of it is needed; what went wrong in it."""
    if not task.main:
        return None
    task_pickle.reading_main = True
    try:
        task_pickle.prepare(task.main)
    except Exception as error:  # noqa: BLE001 - the parent is to know
        return task_pickle.pack_error(error)
    finally:
        task_pickle.reading_main = False
    return None


def _run(task: task_pickle.WorkerTask) -> task_pickle.Report | None:
    """Return the report of the call; None if it was cancelled."""
    try:
        function, args = pickle.loads(task.call)  # noqa: S301 - from the parent
        report = backend.run(task.loop, _serve, task, function, args)
    except Exception as error:  # noqa: BLE001 - reported to the parent
        return task_pickle.pack_error(error)
    if isinstance(report, SystemExit):
        raise report
    return report


async def _serve(task: task_pickle.WorkerTask, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> _Outcome:
    report: _Outcome = None
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))  # from here on an ended call must be reported
    async with (
        open_signal_receiver(signal.SIGTERM) as received,
        await worker_channels.workers_end(worker_channels.Kind(task.kind, task.numbered), task.channel) as channel,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_cancel_when_told, received, tasks.cancel_scope)
        if told:  # before there was a receiver
            tasks.cancel_scope.cancel()
        if isinstance(channel, AnsweringChannel) and not await channel.begin():
            report = task_pickle.pack_value(None)
        else:
            task_pickle.rewrite(task.report, task_pickle.BEGUN)
            report = await _outcome(function, channel, args)
        tasks.cancel_scope.cancel()
    return report


async def _cancel_when_told(received: SignalReceiver, scope: anyio.CancelScope) -> None:
    async for _ in received:
        if not received.shared:  # otherwise the function receives SIGTERM itself, as `aipc.service` does
            scope.cancel()


async def _outcome(function: Callable[..., Awaitable[Any]], channel: Channel, args: tuple[Any, ...]) -> _Outcome:
    try:
        return task_pickle.pack_value(await function(channel, *args))
    except SystemExit as error:
        return error
    except Exception as error:  # noqa: BLE001 - reported to the parent
        return task_pickle.pack_error(error)


def _die_by_sigterm() -> None:
    """Die by SIGTERM, so that the parent sees the cause; after the other exit handlers."""

    def die() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)

    atexit._run_exitfuncs()
    die()
