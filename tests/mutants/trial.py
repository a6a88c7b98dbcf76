"""One defect put to the test: in a copy of the tree, under a limit of time and memory."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .defects import Defect
from .rooms import tests_of

STUCK = 75.0
"""Seconds in which no test ends, after which the defect counts as found: the tests' own limits are 60 and less."""
_MEMORY = 16 << 20
"""KiB of address space for each process (ulimit -v): a defect may ask for more than there is."""
_MARK = "AIPC_TESTS_MUTANT"
_RUN = uuid.uuid4().hex
_LIMITED = ["sh", "-c", f'ulimit -v {_MEMORY}; exec "$@"', "sh"]
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::.*?)(?: - .*)?$", re.MULTILINE)
_PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
_MOST_UNSTABLE = 5


@dataclass
class Outcome:
    """What became of a defect; `by` says which test found it, "" none."""

    defect: Defect
    by: str
    seconds: float
    unstable: list[str]
    """Tests that failed without the defect, too, or with it only once: they were left out."""


def can_be_alone() -> bool:
    """Whether each run of the tests has an IPC namespace and a /dev/shm of its own: only then two trials may run at once."""
    return not subprocess.run(
        [sys.executable, "-c", "from tests import namespace; exit(not namespace.enter())"], check=False
    ).returncode


def copy_of(root: Path, to: Path) -> None:
    """What git knows of, or would add: the tree as it is now. Then Python's and pytest's own compilations, for all trials."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, text=True
    )
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)
    done = subprocess.run(
        [*_PYTEST, "--collect-only", "tests"], cwd=to, env=_environment(to), check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"the tests can't be collected:\n{done.stdout}{done.stderr}")


def try_one(defect: Defect, clean: Path, scratch: Path) -> Outcome:
    """Run the tests of its room until one finds it: one that fails with the defect twice and passes without, or does not end."""
    began, unstable, by = time.monotonic(), list[str](), ""
    with _broken(defect, clean, scratch) as tree:
        for tests in tests_of(defect.path, clean):
            by = _find(tests, tree, clean, unstable)
            if by:
                break
    return Outcome(defect, by, time.monotonic() - began, unstable)


def _find(tests: list[str], tree: Path, clean: Path, unstable: list[str]) -> str:
    while len(unstable) < _MOST_UNSTABLE:
        status, printed = _pytest([*tests, *(f"--deselect={test}" for test in unstable)], tree)
        if status in (0, 5):
            return ""
        failed: list[str] = _FAILED.findall(printed)
        if not failed:
            return "a test that does not end" if status is None else f"pytest ends with {status}"
        if _certain(failed[-1], tree, clean):
            return failed[-1]
        unstable.append(failed[-1])
    return f"{len(unstable)} tests that fail now and then"


def _certain(test: str, tree: Path, clean: Path) -> bool:
    """Whether it passes without the defect, and fails with it again: on a busy machine, a test may fail by chance."""
    return _pytest([test], clean)[0] != 1 and _pytest([test], tree)[0] != 0


@contextmanager
def _broken(defect: Defect, clean: Path, scratch: Path) -> Iterator[Path]:
    tree = scratch / "tree"
    shutil.copytree(clean, tree)
    try:
        file = tree / defect.path
        file.write_text(defect.after)
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
            compiled.unlink()
        yield tree
    finally:
        shutil.rmtree(tree)


def _pytest(arguments: list[str], tree: Path) -> tuple[int | None, str]:
    """Exit status and output; None if it was stuck and had to be ended."""
    mark = _RUN + uuid.uuid4().hex
    temporary = tree.parent / "t"
    command = [*_LIMITED, *_PYTEST, f"--basetemp={temporary}", *arguments]
    output = tree.parent / "output"
    with output.open("wb") as out:
        running = subprocess.Popen(
            command,
            cwd=tree,
            env=_environment(tree, mark),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        status = _wait(running, output)
    finally:
        end_all(mark)
        running.wait()
        shutil.rmtree(temporary, ignore_errors=True)
    return status, output.read_text(errors="replace")


def _wait(running: subprocess.Popen[bytes], output: Path) -> int | None:
    """pytest prints something at the end of each test; nothing for long means that one is stuck."""
    printed, since = 0, time.monotonic()
    while time.monotonic() - since < STUCK:
        try:
            return running.wait(0.2)
        except subprocess.TimeoutExpired:
            if output.stat().st_size != printed:
                printed, since = output.stat().st_size, time.monotonic()
    return None


def end_all(mark: str = _RUN) -> None:
    """Kill what still runs of a trial, or of all, wherever it has gone: all of its processes have the mark in their environment."""
    wanted = f"{_MARK}={mark}".encode()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if wanted in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
            except (OSError, ProcessLookupError):
                continue


def _environment(tree: Path, mark: str = "") -> dict[str, str]:
    """The tests import the copy, and cancel each operation less often than by themselves: a defect shows soon or not at all."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {"AIPC_TESTS_CANCELLATIONS": "100", "AIPC_TESTS": "loops", **inherited, "PYTHONPATH": str(tree), _MARK: mark}
