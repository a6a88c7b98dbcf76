"""In a worker with AIPC_TESTS_EARLY, SIGTERM comes just before the worker can receive signals."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio

import aipc
from aipc.processes.workers import main

if "AIPC_TESTS_EARLY" in os.environ:
    _open = main.open_signal_receiver

    def _open_after_sigterm(*numbers: int) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return _open(*numbers)

    main.open_signal_receiver = _open_after_sigterm


async def stay(channel: aipc.Channel) -> None:
    await anyio.sleep_forever()
