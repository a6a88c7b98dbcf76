"""What a run measured: a table that grows, JSON, plots, and the comparison with an earlier run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

LOSS = 1.5
"""How many times worse than in the repository a ratio may be, before the gate fails: runs differ."""


@dataclass(frozen=True)
class Row:
    """One figure of aipc's beside another one, in the same run."""

    part: str
    what: str
    theirs: float
    ours: float
    unit: str
    promise: float
    at_most: bool

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def kept(self) -> bool:
        return self.ratio <= self.promise if self.at_most else self.ratio >= self.promise

    @property
    def gain(self) -> float:
        """How many times better than the other side; below 1: worse."""
        return 1 / self.ratio if self.at_most else self.ratio

    @property
    def promised_gain(self) -> float:
        return 1 / self.promise if self.at_most else self.promise

    def worse_than(self, earlier: float) -> bool:
        """Whether a third or more of an earlier ratio is lost."""
        return self.ratio > earlier * LOSS if self.at_most else self.ratio < earlier / LOSS


@dataclass
class Report:
    """All rows so far. Its `judge` takes one, and prints it."""

    console: Console = field(default_factory=Console)
    part: str = ""
    rows: list[Row] = field(default_factory=list)

    def judge(self, what: str, theirs: float, ours: float, unit: str, promise: float, *, at_most: bool) -> None:
        """One figure of the other side, one of aipc's, and the ratio that is promised."""
        row = Row(self.part, what, theirs, ours, unit, promise, at_most)
        self.rows.append(row)
        verdict = "[green]ok[/]" if row.kept else "[red]MISSED[/]"
        bound = f"{'≤' if at_most else '≥'} {promise:.3g}"
        self.console.print(f"{what:60} {theirs:10.4g} {ours:10.4g} {unit:16} {row.ratio:8.3f} {bound:9} {verdict}")

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if not row.kept]

    def print_missed(self) -> None:
        """The promises that did not hold."""
        table = Table("missed", "ratio", "promise", title=f"{len(self.missed)} of {len(self.rows)} promises missed")
        for row in self.missed:
            table.add_row(row.what, f"{row.ratio:.3f}", f"{'≤' if row.at_most else '≥'} {row.promise:.3g}")
        self.console.print(table)

    def write(self, path: Path) -> None:
        """As JSON, with the ratios."""
        rows = [{**asdict(row), "ratio": row.ratio, "kept": row.kept} for row in self.rows]
        path.write_text(json.dumps(rows, indent=1) + "\n")

    def gate(self, path: Path) -> list[str]:
        """Which ratios are worse by half than those in a file that `write` made."""
        earlier = {row["what"]: row["ratio"] for row in json.loads(path.read_text())}
        return [
            f"{row.what}: {row.ratio:.3f}, was {earlier[row.what]:.3f}"
            for row in self.rows
            if row.what in earlier and row.worse_than(earlier[row.what])
        ]

    def plot(self, directory: Path) -> None:
        """One SVG for each part: the gains as bars, and the promises as marks."""
        import matplotlib as mpl
        from matplotlib.figure import Figure

        mpl.rcParams |= {"svg.hashsalt": "aipc", "svg.fonttype": "none"}  # the same figures are the same small file
        directory.mkdir(parents=True, exist_ok=True)
        for part in dict.fromkeys(row.part for row in self.rows):
            rows = [row for row in self.rows if row.part == part and row.ratio]  # 0 wake-ups: no bar
            names = [row.what for row in rows]
            figure = Figure(figsize=(9, 1.2 + 0.3 * len(rows)), layout="constrained")
            axes = figure.subplots()
            bars = axes.barh(names, [row.gain - 1 for row in rows], left=1, color="#4a6fa5")
            axes.bar_label(bars, [f"{row.gain:.2g}" for row in rows], padding=4, fontsize="small")
            axes.plot([row.promised_gain for row in rows], names, "|", color="#b5823a", markersize=14, label="promised")
            axes.axvline(1, color="#1a1a2e", linewidth=0.8)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.margins(x=0.1)
            axes.invert_yaxis()
            axes.set_xlabel("times as good as the other side, in one run; right of 1 aipc is better")
            axes.legend(loc="lower right", fontsize="small")
            figure.savefig(directory / f"benchmark-{part}.svg", metadata={"Date": None})
