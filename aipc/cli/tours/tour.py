"""`aipc tour`: each mechanism between this process and a second one, on real files, with a table of the results."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import aipc
from aipc._address import Address
from aipc._sys.sysv.key import key_of
from aipc.abc import ChannelAttribute, Lock
from aipc.testing import kernel_objects

from .. import table
from .meetings import CHANNELS, LOCKS, Peer

ROUND_TRIPS = 3_000
ACQUISITIONS = 500
_NUMBERS = ("MESSAGES", "MiB/s", "P50 µs", "P99 µs")
PATIENCE = 120  # seconds for one mechanism


@dataclass
class Row:
    """The results of one mechanism. Times in µs; for a lock, `messages` are acquisitions, and a round trip is one acquisition."""

    mechanism: str
    messages: int = 0
    mib_per_second: float | None = None
    p50: float = 0.0
    p99: float = 0.0
    verdict: str = "not run"
    left_behind: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether everything arrived and nothing is left behind."""
        return self.verdict == "ok" and not self.left_behind


Advance = Callable[[], None]

NAMES = [*CHANNELS, *LOCKS]


def standard_library() -> list[Path]:
    """Every .py file of the running Python's standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in root.rglob("*.py") if not {"site-packages", "dist-packages"} & set(path.parts))


def run(loop: str, names: Sequence[str], console: Console) -> list[Row]:
    """Tour the mechanisms of these names, in order, on that loop."""
    backend = "trio" if loop == "trio" else "asyncio"
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    if loop != "asyncio":
        __import__(loop)
    files = standard_library()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        rows = []
        for name in names:
            total = len(files) + ROUND_TRIPS if name in CHANNELS else ACQUISITIONS
            task = progress.add_task(name, total=total)
            advance = partial(progress.advance, task)
            rows.append(anyio.run(_visit, name, loop, files, advance, backend=backend, backend_options=options))
            progress.remove_task(task)
    return rows


async def _visit(name: str, loop: str, files: list[Path], advance: Advance) -> Row:
    row = Row(name)
    with tempfile.TemporaryDirectory(prefix="aipc-tour-") as directory, Peers(loop) as peer:
        try:
            with anyio.fail_after(PATIENCE):
                if name in CHANNELS:
                    await _visit_channel(row, CHANNELS[name](Path(directory), peer), files, advance)
                else:
                    await _visit_lock(row, *LOCKS[name](Path(directory)), Path(directory), peer, advance)
        except Exception as error:  # noqa: BLE001 - a row that fails is a result; the tour goes on
            row.verdict = f"{type(error).__name__}: {error}"
        row.left_behind = tuple(_left_in(Path(directory)))
    return row


def _left_in(directory: Path) -> list[str]:
    """What the tour has left: files in its directory, System V objects by its keys, POSIX objects by its name."""
    keys = {key_of(Address(str(directory), "ftok", str(directory)), project) for project in (1, 2, 3)}
    marks = {f"(key {key & 0xFFFFFFFF:#x})" for key in keys if key is not None} | {directory.name}
    objects = sorted(name for name in kernel_objects() if any(mark in name for mark in marks))
    return objects + sorted(entry.name for entry in directory.iterdir() if entry.name not in ("lock", "counter"))


class Peers:
    """Starts second processes, and ends them."""

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Peer:
        return self

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "aipc.cli.tours.peer", self._loop, *arguments]

    def __call__(self, *arguments: str, inherit: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self.command(*arguments), pass_fds=inherit, stdout=subprocess.PIPE)
        self._started.append(process)
        return process

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


async def _visit_channel(row: Row, meeting: AbstractAsyncContextManager[Any], files: list[Path], advance: Advance) -> None:
    async with meeting as met:
        sends, receives = met if isinstance(met, tuple) else (met, met)
        limit = sends.extra(ChannelAttribute.max_message_size)
        await sends.send(json.dumps({"files": len(files), "round_trips": ROUND_TRIPS}).encode())
        await receives.receive()  # it runs: start the clock
        digest = hashlib.sha256()
        size = 0

        def contents() -> Iterator[bytes]:
            nonlocal size
            for path in files:
                data = path.read_bytes()[:limit]
                digest.update(data)
                size += len(data)
                advance()
                yield data

        start = perf_counter()
        await sends.send_many(contents())
        answer = json.loads(await receives.receive())
        row.mib_per_second = size / (perf_counter() - start) / (1 << 20)
        row.messages = answer["files"]
        samples = []
        for number in range(ROUND_TRIPS):
            payload = b"%064d" % number
            start = perf_counter()
            await sends.send(payload)
            echo = await receives.receive()
            samples.append(perf_counter() - start)
            if echo != payload:
                row.verdict = f"round trip {number} came back changed"
                return
            advance()
        row.p50, row.p99 = _percentiles(samples)
        row.verdict = "ok" if answer["sha256"] == digest.hexdigest() else "another SHA-256 there"


async def _visit_lock(row: Row, url: str, options: dict[str, Any], directory: Path, peer: Peer, advance: Advance) -> None:
    counter = directory / "counter"
    counter.write_text("0")
    async with aipc.open_lock(url, **options) as lock:
        rival = peer("count", url, str(counter), str(ACQUISITIONS))
        samples = await count(lock, counter, ACQUISITIONS, advance)
        row.messages = 2 * ACQUISITIONS
        row.p50, row.p99 = _percentiles(samples)
        status = await anyio.to_thread.run_sync(rival.wait)
        counted = int(counter.read_text())
        if status or counted != row.messages:
            row.verdict = f"{row.messages} acquisitions counted {counted} (the second process ended with {status})"
            return
        holder = peer("hold", url)
        if holder.stdout is None or await anyio.to_thread.run_sync(holder.stdout.readline) != b"held\n":
            row.verdict = "the second process could not take the lock"
            return
        holder.kill()
        await lock.acquire()
        lock.release()
        row.verdict = "ok"


async def count(lock: Lock, counter: Path, times: int, advance: Advance = lambda: None) -> list[float]:
    """Raise the number in a file under the lock; return the seconds that each turn took."""
    samples = []
    for _ in range(times):
        start = perf_counter()
        async with lock:
            counter.write_text(str(int(counter.read_text()) + 1))
        samples.append(perf_counter() - start)
        advance()
    return samples


def _percentiles(samples: list[float]) -> tuple[float, float]:
    ordered = sorted(samples)
    return ordered[len(ordered) // 2] * 1e6, ordered[len(ordered) * 99 // 100] * 1e6


def show(rows: Sequence[Row]) -> None:
    """Print the rows, and how many are good."""
    shown = [
        (
            row.mechanism,
            f"{row.messages:,}",
            "" if row.mib_per_second is None else f"{row.mib_per_second:,.0f}",
            f"{row.p50:,.1f}",
            f"{row.p99:,.1f}",
            row.verdict if row.good or row.verdict != "ok" else "left objects behind",
        )
        for row in rows
    ]
    table.show(("MECHANISM", "MESSAGES", "MiB/s", "P50 µs", "P99 µs", "VERDICT"), shown, right=_NUMBERS)
    for row in rows:
        for left in row.left_behind:
            print(f"{row.mechanism} left behind: {left}")
    print("Times: 64 bytes there and back; of a lock: from acquiring it until it is free")
    print("again, with a file changed meanwhile, against a second process.")
    print(f"{sum(row.good for row in rows)} of {len(rows)} ok")
