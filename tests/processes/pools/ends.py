"""The two ends of a pool's channel in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aipc.processes.asking import AskingChannel
from aipc.processes.workers import channels as worker_channels
from aipc.processes.workers.channels import Kind

KINDS = ("stream", "seqpacket", "shm")


@asynccontextmanager
async def numbered_ends(kind: str) -> AsyncIterator[tuple[AskingChannel, Any]]:
    """The pool's and the worker's, over the same transports as between two processes."""
    chosen = Kind(kind, numbered=True)
    ours, theirs = worker_channels.sockets(chosen)
    async with (
        worker_channels.asking(worker_channels.parents_end(chosen, ours, "a worker")) as asking,
        await worker_channels.workers_end(chosen, theirs.detach()) as answering,
    ):
        yield asking, answering
