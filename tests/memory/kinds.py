"""The kinds of segments: each has the same promises."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import aipc
from aipc.abc import Segment

from ..subjects import new_key, new_name


class Kind:
    """One kind of segment: how to make one of a size, and open it again."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self.known: Any = {"sysv": new_key(), "file": place / "file", "posix": new_name(), "memfd": "test"}[name]
        self.cls: Any = {
            "sysv": aipc.SysVSharedMemory,
            "file": aipc.MappedFile,
            "posix": aipc.SharedMemory,
            "memfd": aipc.MemfdSegment,
        }[name]

    def create(self, size: int, **options: Any) -> Segment:
        if self.name != "memfd":
            options.setdefault("unlink", True)
        return self.cls.create(self.known, size, **options)

    def open(self, first: Any, read_only: bool = False, **options: Any) -> Segment:
        return self.cls.open(os.dup(first.fd) if self.name == "memfd" else self.known, read_only, **options)
