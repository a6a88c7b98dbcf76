"""An operator of ours for cosmic-ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import Keyword

_CALLS = ("atom_expr", "power")


class RemoveStatement(Operator):  # type: ignore[misc]  # cosmic-ray has no types
    """Puts `pass` in place of a call whose result nobody uses, an assignment to a member, a `del` or a `raise`.

    A wake-up that is forgotten, a limit that is not checked: cosmic-ray's own operators never make such a defect.
    """

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        if node.type == "simple_stmt" and _removable(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        first = node.children[0].get_first_leaf()
        node.children[0] = Keyword("pass", first.start_pos, prefix=first.prefix)
        return node

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return (
            Example("def f():\n    g()\n", "def f():\n    pass\n"),
            Example("x.y = 1\n", "pass\n"),
            Example("if x:\n    raise X\n", "if x:\n    pass\n"),
        )


def _removable(statement: Any) -> bool:
    if statement.type == "expr_stmt":
        return statement.children[0].type in _CALLS or statement.children[1].get_code().strip() != "="
    return statement.type in (*_CALLS, "await_expr", "del_stmt", "raise_stmt")
