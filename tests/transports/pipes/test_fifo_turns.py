"""Several tasks that send over one channel into a FIFO while another writer has the lock: none is forgotten."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import anyio
import pytest

from aipc.testing.expect import settle

from .fifos import plain_writer, receiving, sending

pytestmark = pytest.mark.anyio


async def test_a_refused_send_forgets_no_other(place: Path) -> None:
    """One task waits for the lock, another's `send_nowait` comes in between: it takes it, or is refused."""
    path = place / "fifo"
    async with receiving(path, create=True) as receiver, sending(path) as sender:
        other = plain_writer(path)
        fcntl.flock(other, fcntl.LOCK_EX)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send, b"one")
                await settle()
                fcntl.flock(other, fcntl.LOCK_UN)
                sender.send_nowait(b"two")
                fcntl.flock(other, fcntl.LOCK_EX)
                with pytest.raises(anyio.WouldBlock):
                    sender.send_nowait(b"three")
                fcntl.flock(other, fcntl.LOCK_UN)
            os.close(other)
            assert {await receiver.receive(), await receiver.receive()} == {b"one", b"two"}
