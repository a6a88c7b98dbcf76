"""Pipes and children: the C program is the parent, or the child."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Compile, Start, output

Words = Callable[..., list[str]]


def test_a_child_in_c_reads(in_python: Start, compiled: Compile) -> None:
    pipes = compiled("pipes")
    assert output(in_python("pipes_notes", "pipe3", pipes, "pipe4")) == "pipe3 wrote 3 bytes\npipe4 read 3 bytes: 123\n"
    assert output(in_python("pipes_alp", "writer", pipes, "lines")) == 5 * "Hello, world.\n"
    told = "All the leaves are brown\nthe child ended with 0\n"
    assert output(in_python("pipes_kalin", "writer", pipes, "bytes")) == told


def test_a_child_in_c_writes(in_python: Start, compiled: Compile) -> None:
    printed = output(in_python("pipes_beej", "pipe2", compiled("pipes"), "write"))
    assert printed == 'pipe2: the parent read "test"\npipe2: the child ended with 0\n'


@pytest.mark.parametrize(
    ("example", "half", "text", "times"),
    [
        ("pipes_notes", "pipe4", "123", 1),
        ("pipes_alp", "reader", "Hello, world.\n", 5),
        ("pipes_kalin", "reader", "leaves\n", 1),
    ],
)
def test_a_parent_in_c_writes(in_c: Start, python_words: Words, example: str, half: str, text: str, times: int) -> None:
    printed = output(in_c("pipes", "to", text, str(times), *python_words(example, half)))
    told = "pipe4 read 3 bytes: 123\n" if half == "pipe4" else times * text
    assert printed == told + "the child ended with 0\n"


def test_a_parent_in_c_reads(in_c: Start, python_words: Words) -> None:
    printed = output(in_c("pipes", "from", *python_words("pipes_beej", "child")))
    assert printed == 'the parent read "test"\nthe child ended with 0\n'


def test_fork1(in_c: Start, in_python: Start, compiled: Compile, python_words: Words) -> None:
    """The child has the parent's standard input, and chooses its exit status."""
    told = ["PARENT: waiting for the child", "CHILD: enter my exit status (0 to 255)", "CHILD: goodbye"]
    told.append("PARENT: the child's exit status is 7")
    assert output(in_python("fork1", "parent", compiled("fork1"), "child"), "7\n").splitlines() == told
    assert output(in_c("fork1", "parent", *python_words("fork1", "child")), "7\n").splitlines() == told
