"""The functions in C (`_native*.c`), or None: not compiled, or `AIPC_DISABLE=native`. The Python code beside each use is the reference."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from . import probes


def _load() -> ModuleType | None:
    if not probes.enabled("native"):
        return None
    try:
        return import_module("aipc._sys._native")
    except ImportError:
        return None


native = _load()
MOST_READ: int = 0 if native is None else native.MOST_READ
"""Bytes that `native.spin` reads at most."""
MOST_WRITTEN: int = -1 if native is None else native.MOST_WRITTEN
"""Bytes of a message that `native.send` writes at most."""
