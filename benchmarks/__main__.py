"""`python -m benchmarks`: the promises about speed, as ratios within this run; exit status 1 if one does not hold."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from .harness import import_all
from .parts import PARTS
from .report import Report


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(PARTS)}. All, if none is named.")] = None,
    rounds: Annotated[int, typer.Option(help="How often the contestants take turns; the median counts.")] = 3,
    write: Annotated[Path | None, typer.Option(help="Write the figures into this file, as JSON.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Write an SVG for each part into this directory.")] = None,
    gate: Annotated[
        Path | None, typer.Option(help="Fail only if a ratio is worse by half than in this file of `--write`.")
    ] = None,
) -> None:
    """Measure, and judge each promise as soon as it is measured."""
    chosen = parts or list(PARTS)
    if unknown := sorted(set(chosen) - set(PARTS)):
        raise typer.BadParameter(f"{', '.join(unknown)}: no such part; there are {', '.join(PARTS)}")
    import_all()
    report, start = Report(), monotonic()
    for number, part in enumerate(chosen, 1):
        report.part = part
        report.console.rule(f"{part} ({number} of {len(chosen)}), {(monotonic() - start) / 60:.0f} min so far")
        PARTS[part](report.judge, rounds)
    report.print_missed()
    if write is not None:
        report.write(write)
    if plots is not None:
        report.plot(plots)
    lost = [row.what for row in report.missed] if gate is None else report.gate(gate)
    for what in () if gate is None else lost:
        report.console.print(f"[red]lost[/] {what}")
    report.console.print(f"{len(report.rows)} figures in {(monotonic() - start) / 60:.1f} min")
    raise typer.Exit(1 if lost else 0)


if __name__ == "__main__":
    typer.run(main)
