"""The tour, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from aipc.cli.tours import tour

from .conftest import LOOPS
from .subjects import LONG


def aipc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "aipc", *arguments], check=False, capture_output=True, text=True, timeout=120)


FEW = ["unix", "sysv-mq"]


@pytest.mark.parametrize("loop", LOOPS if LONG else ["uvloop"])
def test_every_mechanism(loop: str) -> None:
    """A short run has few of them; `nox -s tour` has all."""
    names = tour.NAMES if LONG else FEW
    done = aipc("tour", "--json", "--loop", loop, *(argument for name in names for argument in ("--only", name)))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["mechanism"]: row for row in json.loads(done.stdout)}
    assert list(rows) == names
    assert {row["verdict"] for row in rows.values()} == {"ok"}
    assert [left for row in rows.values() for left in row["left_behind"]] == []
    assert rows["unix"]["messages"] == len(tour.standard_library()) > 1_000
    assert all(0 < row["p50"] <= row["p99"] for row in rows.values())


@pytest.mark.costly
def test_table_of_one() -> None:
    done = aipc("tour", "--only", "pipe")
    assert done.returncode == 0, done.stderr
    assert "pipe" in done.stdout
    assert "sysv-mq" not in done.stdout


@pytest.mark.costly
def test_unknown_name_says_which_there_are() -> None:
    done = aipc("tour", "--only", "carrier pigeon")
    assert done.returncode == 2
    assert "carrier pigeon" in done.stderr
    assert "sysv-mq" in done.stderr


@pytest.mark.costly
def test_failing_row_is_a_failure() -> None:
    """With no descriptors to be had, the mechanism fails, its row says why, and the exit status is 1."""
    command = f"ulimit -n 8; exec {sys.executable} -m aipc tour --json --only unix"
    done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
