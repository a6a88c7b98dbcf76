"""Whether the functions in C are there to be tested."""

from __future__ import annotations

from aipc._sys import probes

from ..peers import give_up
from . import native


def test_they_are_compiled() -> None:
    """Otherwise the tests beside this one are skipped, and CI would not notice."""
    if native is None and probes.enabled("native"):
        give_up("the functions in C are not compiled; `pip install -e .` does that where there is a C compiler")
    assert (native is not None) == probes.enabled("native")
