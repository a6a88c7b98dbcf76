"""The functions in C do what the Python code beside them does, which is the reference."""

from __future__ import annotations

import pytest

from aipc._sys.native import native

needs_native = pytest.mark.skipif(native is None, reason="not compiled, or AIPC_DISABLE=native")
