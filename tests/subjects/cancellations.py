"""How often the tests cancel each operation."""

from __future__ import annotations

import os

CANCELLATIONS = int(os.environ.get("AIPC_TESTS_CANCELLATIONS", "3334"))
"""On each loop: on the three together that is 10,000. `nox -s cancellations` does 10,000 on each."""
