"""What tests of the functions in C share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def anyio_backend_reads_ahead(anyio_backend: Any) -> bool:
    """Whether this test's loop reads ahead: trio's parks in Python."""
    return "trio" not in str(anyio_backend)
