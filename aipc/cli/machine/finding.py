"""One check of `aipc doctor`."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One check. `good` is None where there is nothing to judge; `advice` says what a lack costs, or how to change it."""

    subject: str
    name: str
    value: str
    good: bool | None
    advice: str
