"""Which defects there can be, and a random sample of them."""

from __future__ import annotations

import difflib
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from .bare import bare, enclosing
from .removal import RemoveStatement

Position = tuple[tuple[int, int], tuple[int, int]]
Mutation = tuple[Any, int]
"""A cosmic-ray operator, and which of its occurrences in the file."""


@dataclass(frozen=True)
class Defect:
    """One file with one defect."""

    path: str
    line: int
    function: str
    before: str
    after: str

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line} in {self.function}"

    def diff(self, context: int = 4) -> str:
        """A unified diff that `git apply` takes."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            f"a/{self.path}",
            f"b/{self.path}",
            n=context,
        )
        return "".join(lines)


def sample(root: Path, where: Sequence[str], count: int, seed: int) -> Iterator[Defect]:
    """`count` defects in `where`, which are directories, files, or FILE:LINE, each at another place of the code; a place is chosen first, then one of the defects that it can have.

    So the many that one arithmetic operator can have do not crowd out the others. The same seed chooses the same from the same code.
    """
    chance = random.Random(seed)
    places = list(_places(root, where))
    chance.shuffle(places)
    for path, position in places:
        if not count:
            return
        source = (root / path).read_text()
        mutations = _positions(source)[position]
        chance.shuffle(mutations)
        for operator, occurrence in mutations:
            after = mutate_code(source, operator, occurrence)
            if after is not None and bare(after) not in (None, bare(source)):
                yield Defect(path, position[0][0], enclosing(source, position[0][0]), source, after)
                count -= 1
                break


def _places(root: Path, where: Sequence[str]) -> Iterator[tuple[str, Position]]:
    for path in sorted(str(file.relative_to(root)) for file in root.glob("aipc/**/*.py")):
        lines = {line for prefix, _, line in (place.partition(":") for place in where) if PurePath(path).is_relative_to(prefix)}
        if lines:
            for position in sorted(_positions((root / path).read_text())):
                if lines & {"", str(position[0][0])}:
                    yield path, position


_known: dict[str, dict[Position, list[Mutation]]] = {}


def _positions(source: str) -> dict[Position, list[Mutation]]:
    """What cosmic-ray can do to it, by place."""
    if source not in _known:
        found = defaultdict(list)
        nodes = list(ast_nodes(get_ast(source)))
        for operator in _operators():
            places = (place for node in nodes for place in operator.mutation_positions(node))
            for occurrence, place in enumerate(places):
                found[place].append((operator, occurrence))
        _known[source] = found
    return _known[source]


def _operators() -> Iterator[Any]:
    """All of cosmic-ray's that take no arguments, and ours."""
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if not operator.arguments():
            yield operator()
    yield RemoveStatement()
