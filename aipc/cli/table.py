"""Tables of plain text: aligned, and never a name that is cut in two."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence


def width() -> int | None:
    """The terminal's columns; None if standard output is no terminal: a line may then have any length."""
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None


def show(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a table. The headings in `right` have numbers below them."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    first, *others = lines(headings, rows, right, width())
    print(bold + first + plain)
    for line in others:
        print(line)


def lines(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], columns: int | None) -> Iterator[str]:
    """The lines. A name in the first column that leaves no room for the others has a line of its own, before theirs."""
    table = [headings, *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(headings))]
    if columns is not None:
        room = columns - sum(widths[1:]) - 2 * (len(widths) - 1)
        widths[0] = max((len(row[0]) for row in table if len(row[0]) <= room), default=0)
    for row in table:
        first = row[0]
        if len(first) > widths[0]:
            yield first
            first = ""
        cells = [
            cell.rjust(space) if heading in right else cell.ljust(space)
            for cell, space, heading in zip((first, *row[1:]), widths, headings, strict=True)
        ]
        if line := "  ".join(cells).rstrip():
            yield line


def wrapped(line: str, indent: int = 2) -> list[str]:
    """The rows of a line: broken at spaces only, so that no name is cut, on a terminal that is too narrow."""
    columns = width()
    if columns is None or len(line) <= columns:
        return [line]
    return textwrap.wrap(line, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def number_of_bytes(size: int | None) -> str:
    """A size in B, KiB, MiB or GiB."""
    if size is None:
        return ""
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def counted(number: int, what: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
