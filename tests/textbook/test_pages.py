"""The pages of docs/textbook show the examples, and what they print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from .conftest import EXAMPLES, Start, output

PAGES = sorted((Path(__file__).parents[2] / "docs" / "textbook").glob("*.md"))
TEXT = "".join(page.read_text() for page in PAGES)
SHOWN = [block.split("\n", 1) for block in re.findall(r"^```text\n\$ python (.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)]


@pytest.mark.parametrize(("command", "printed"), SHOWN, ids=[command for command, _ in SHOWN])
def test_output(command: str, printed: str, in_python: Start) -> None:
    """As on the page, which runs both halves: in Python, each in a process of its own."""
    example, *arguments = shlex.split(command)
    assert output(in_python(example.removesuffix(".py"), *arguments)) == printed


def test_every_example_is_shown_and_run() -> None:
    examples = {path.name for path in EXAMPLES.glob("*.py")}
    assert set(re.findall(r"^```{literalinclude} ../../examples/textbook/(.*)$", TEXT, re.MULTILINE)) == examples
    assert {command.split()[0] for command, _ in SHOWN} == examples
