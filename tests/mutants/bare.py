"""What of a file's code can make a difference to a test: all but types, texts and asserts."""

from __future__ import annotations

import ast
from functools import cache

_MARKS = ("abstractmethod", "final", "overload", "override", "runtime_checkable")
_LOGS = ("_log", "_logger", "log", "logger", "logging", "warnings")


@cache
def bare(source: str) -> str | None:
    """The code without them, to compare; None if it is no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    return ast.dump(_Bare().visit(tree))


@cache
def enclosing(source: str, line: int) -> str:
    """The function or class around a line, `Class.method`."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (
            node.end_lineno or 0
        ):
            names.append((node.lineno, node.name))
    return ".".join(name for _, name in sorted(names)) or "the module"


class _Bare(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST | None:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST | None:
        if node.name == "__repr__" or "overload" in map(_name, node.decorator_list):
            return None
        node.returns = None
        node.decorator_list = [mark for mark in node.decorator_list if _name(mark) not in _MARKS]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if _name(node.targets[0]) in ("__slots__", "__all__"):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if any(_name(part) == "TYPE_CHECKING" for part in ast.walk(node.test)):
            return None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Attribute) and _name(called.value) in _LOGS:
            return None
        return self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")

    def visit_Assert(self, node: ast.Assert) -> None:
        return None


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
