"""The two ends of a FIFO, and another program's."""

from __future__ import annotations

import os
from pathlib import Path

import aipc
from aipc.abc import Channel


def receiving(path: Path, **options: object) -> aipc.Opening[Channel]:
    return aipc.open_channel(f"fifo:{path}?direction=receive", **options)


def sending(path: Path, **options: object) -> aipc.Opening[Channel]:
    return aipc.open_channel(f"fifo:{path}?direction=send", **options)


def plain_writer(path: Path) -> int:
    """Another program's end, as by open(2)."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
