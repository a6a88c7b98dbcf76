"""`aipc bench`: round trips of this machine, beside asyncio's streams."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import anyio
import typer

from . import table
from .touring import Loop
from .tours.measuring import Figures, measure

_STREAMS = "asyncio streams"
_PATIENCE = 60
_NOISE = 1.25
"""By how much two measurements of the same may differ."""
_HEADINGS = ("MECHANISM", "P50 µs", "P99 µs", "OF STREAMS", "MESSAGES/s", "VERDICT")


class Row(NamedTuple):
    """What was measured of one mechanism; `ratio`: its p50 by that of asyncio's streams."""

    mechanism: str
    p50: float
    p99: float
    ratio: float
    per_second: float
    verdict: str


def bench(
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this mechanism; may be repeated.")] = None,
    loop: Annotated[Loop, typer.Option(help="The event loop, in both processes; the streams' is never trio.")] = Loop.asyncio,
    size: Annotated[int, typer.Option(min=1, max=4096, help="Bytes of a message.")] = 64,
    count: Annotated[int, typer.Option(min=10, help="Round trips of each mechanism.")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure round trips between two processes.

    First and last those of asyncio's streams over a Unix socket, with which the others are compared. Ratios hold elsewhere, microseconds
    do not: another program that runs meanwhile changes them.
    """
    from .tours.meetings import CHANNELS

    unknown = [name for name in only or [] if name not in CHANNELS]
    if unknown:
        raise typer.BadParameter(f"no mechanism {', '.join(unknown)}; there are {', '.join(CHANNELS)}", param_hint="--only")
    plan = (10 * count, count, size)
    before = _streams(loop, plan)
    measured = [(name, _try(lambda name=name: _channel(loop, name, plan))) for name in only or CHANNELS]  # type: ignore[misc]
    after = _streams(loop, plan)
    base = (_quantile(before, 0.5) + _quantile(after, 0.5)) / 2
    rows = [_row(_STREAMS, before, base), *(_row(name, found, base) for name, found in measured), _row(_STREAMS, after, base)]
    if as_json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
    else:
        _show(rows, size)
    raise typer.Exit(0 if all(row.verdict == "ok" for row in rows) else 1)


def _try(measured: Callable[[], Figures]) -> Figures | Exception:
    try:
        return measured()
    except Exception as error:  # noqa: BLE001 - a mechanism that fails is a result; the others are measured all the same
        return error


def _channel(loop: Loop, name: str, plan: tuple[int, int, int]) -> Figures:
    from .tours.meetings import CHANNELS
    from .tours.tour import Peers

    async def run() -> Figures:
        with (
            tempfile.TemporaryDirectory(prefix="aipc-bench-") as directory,
            Peers(loop.value) as peer,
            anyio.fail_after(_PATIENCE),
        ):
            async with CHANNELS[name](Path(directory), peer) as met:
                sends, receives = met if isinstance(met, tuple) else (met, met)
                return await measure(sends, receives, *plan)

    return _run(loop, run)


def _streams(loop: Loop, plan: tuple[int, int, int]) -> Figures:
    from .tours import streams

    same = Loop.asyncio if loop is Loop.trio else loop
    with tempfile.TemporaryDirectory(prefix="aipc-bench-") as directory:
        path = f"{directory}/streams"
        started: list[subprocess.Popen[bytes]] = []

        def start() -> Iterator[None]:
            started.append(subprocess.Popen([sys.executable, "-m", streams.__name__, same.value, path]))
            yield

        async def run() -> Figures:
            with anyio.fail_after(_PATIENCE):
                return await streams.measure(path, start(), *plan)

        try:
            return _run(same, run)
        finally:
            for process in started:
                process.kill()
                process.wait()


def _run(loop: Loop, function: Callable[[], Any]) -> Figures:
    if loop is Loop.trio:
        return anyio.run(function, backend="trio")  # type: ignore[no-any-return]
    return anyio.run(function, backend_options={"use_uvloop": loop is Loop.uvloop})  # type: ignore[no-any-return]


def _quantile(figures: Figures, part: float) -> float:
    return sorted(figures.samples)[int(len(figures.samples) * part)]


def _row(name: str, found: Figures | Exception, base: float) -> Row:
    if isinstance(found, Exception):
        return Row(name, 0, 0, 0, 0, f"{type(found).__name__}: {found}")
    p50, p99 = _quantile(found, 0.5), _quantile(found, 0.99)
    verdict = "ok" if not found.changed else f"{found.changed} came back changed"
    return Row(name, p50 * 1e6, p99 * 1e6, p50 / base, found.per_second, verdict)


def _show(rows: Sequence[Row], size: int) -> None:
    cells = [
        (row.mechanism, f"{row.p50:,.1f}", f"{row.p99:,.1f}", f"{row.ratio:.2f}", f"{row.per_second:,.0f}", row.verdict)
        if row.p50
        else (row.mechanism, "", "", "", "", row.verdict)
        for row in rows
    ]
    table.show(_HEADINGS, cells, right=_HEADINGS[1:5])
    print(f"{size} bytes there and back between two processes; OF STREAMS: the p50 by that of")
    print("asyncio's streams. MESSAGES/s: one way, as many at once as fit.")
    first, last = rows[0].p50, rows[-1].p50
    if max(first, last) > _NOISE * min(first, last):
        print("! The two measurements of the streams differ much: other programs run meanwhile.")
