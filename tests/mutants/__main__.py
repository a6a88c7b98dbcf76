"""`python -m tests.mutants`, which `nox -s mutants` calls."""

from __future__ import annotations

import argparse
import queue
import random
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.text import Text

from .defects import Defect, sample
from .rooms import ROOMS
from .trial import Outcome, can_be_alone, copy_of, end_all, try_one

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Choose defects, try them, show what the tests let pass."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl-C: the trials are ended
    console = Console(highlight=False)
    only = " ".join(f"--only {place}" for place in asked.only)
    console.print(
        f"seed {asked.seed}: again with nox -s mutants -- --seed {asked.seed} --count {asked.count} {only}",
        markup=False,
        soft_wrap=True,
    )
    defects = list(sample(ROOT, asked.only or ROOMS, asked.count, asked.seed))
    if asked.list:
        _show(console, defects)
        return
    alone = can_be_alone()
    workers = asked.workers if alone else 1
    console.print(f"{len(defects)} defects, {workers} at a time" + ("" if alone else ", in the IPC namespace of all others"))
    with tempfile.TemporaryDirectory(prefix="m") as directory:
        outcomes = list(_try_all(console, defects, Path(directory), workers))
    _report(console, outcomes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "nox -s mutants --", description="Puts defects into the code, and shows those that the tests let pass."
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="for the same sample of the same code")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATH[:LINE]", help="a room, a file or a line of one; repeatable"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="show the sample, and try nothing")
    asked = parser.parse_args()
    for place in asked.only:
        if not place.startswith(ROOMS):
            parser.error(
                f"--only {place}: must be in one of {', '.join(ROOMS)}: of others it is not said which tests are theirs"
            )
    return asked


def _try_all(console: Console, defects: Sequence[Defect], directory: Path, workers: int) -> Iterator[Outcome]:
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for number in range(workers):
        copy_of(ROOT, directory / str(number) / "clean")
        free.put(directory / str(number))

    def attempt(defect: Defect) -> Outcome:
        scratch = free.get()
        try:
            return try_one(defect, scratch / "clean", scratch)
        finally:
            free.put(scratch)

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with _threads(workers) as pool, Progress(*columns, console=console) as progress:
        task, passed = progress.add_task("", total=len(defects)), 0
        trials: list[Future[Outcome]] = [pool.submit(attempt, defect) for defect in defects]
        for trial in as_completed(trials):
            outcome = trial.result()
            passed += not outcome.by
            verdict = f"found by {outcome.by}" if outcome.by else "passes"
            console.print(f"{outcome.seconds:4.0f} s  {outcome.defect.where}: {verdict}", markup=False, soft_wrap=True)
            progress.update(task, advance=1, description=f"{passed} passed")
            yield outcome


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Whatever ends the block ends the trials, too."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        end_all()
        pool.shutdown()


def _report(console: Console, outcomes: Sequence[Outcome]) -> None:
    passed = [outcome.defect for outcome in outcomes if not outcome.by]
    unstable = sorted({test for outcome in outcomes for test in outcome.unstable})
    if unstable:
        console.print(
            "\nThese tests failed without a defect, too, or with it only once, and were left out:",
            *unstable,
            sep="\n  ",
            markup=False,
        )
    console.rule()
    _show(console, passed)
    console.print(
        f"{len(passed)} of {len(outcomes)} defects pass. "
        "Which of them make no difference, or one of speed only, is for you to judge.",
        style="bold",
        soft_wrap=True,
    )


def _show(console: Console, defects: Sequence[Defect]) -> None:
    for defect in sorted(defects, key=lambda defect: (defect.path, defect.line)):
        console.print(f"\n{defect.where}", style="bold", markup=False)
        console.print(
            Syntax(defect.diff(), "diff", background_color="default") if console.is_terminal else Text(defect.diff()),
            soft_wrap=True,
        )


if __name__ == "__main__":
    main()
