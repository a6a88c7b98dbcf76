"""Calls that are wrong: mypy and pyright must report each line that has a comment, and no other."""

from __future__ import annotations

import aipc

from .right import any_handler, double, fill, ring_handler


async def names() -> None:
    aipc.open_chanel()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    from aipc import Chanel  # type: ignore[attr-defined]  # noqa: F401  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]


async def options() -> None:
    aipc.open_channel("unix:/run/x", framming="lines")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aipc.open_channel("unix:/run/x", framing=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    aipc.open_channel("fifo:/run/x", direction="sent")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    aipc.open_channel("unix:/run/x", backlog=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aipc.listen("unix:/run/x", back_log=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aipc.open_lock("flock:/run/x", share=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aipc.open_ring("shm:/run/x", framing="lines")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aipc.open_sysv_queue(1234, max_size=10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aipc.open_semaphore("posix-sem:/x", length=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aipc.Event("/run/x", waiters=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aipc.SysVSemaphoreSet(None, cuont=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aipc.channel_pair("pipe")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    aipc.popen(["ls"], "rw")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def arguments() -> None:
    aipc.spawn(double)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportArgumentType]
    aipc.spawn(double, "5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    aipc.spawn(double, 5, 6, 7)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportArgumentType]
    aipc.spawn(fill, 10)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    aipc.spawn(double, 5, chanel="shm")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    aipc.spawn(double, 5, channel="pipe")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    aipc.spawn(double, 5, loop="curio")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    aipc.spawn_pool(2, double, "5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    aipc.spawn_pool(2, double, 5, restart="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def results() -> None:
    worker = await aipc.spawn(double, 5)
    text: str = await worker.result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    number: aipc.Worker[str] = worker  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(text, number)


async def handlers() -> None:
    await (await aipc.listen("shm:/run/x")).serve(ring_handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await (await aipc.listen("shm:/run/x")).serve(any_handler)
    (await aipc.open_channel("shm:/run/x")).loan(10)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await (await aipc.open_lock("sysv-sem:private")).acquire(2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
