"""The table of methods: which function answers which call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from .method import Method

Function = TypeVar("Function", bound=Callable[..., Any])
_RESERVED = ("$/", "rpc.")  # by this implementation, as by the Language Server Protocol, and by JSON-RPC 2.0


class Router:
    """The methods of a service: `@router.method` over an async function, an async generator (which streams) or a plain function.

    The annotations check arguments and results; without one, a value may be anything. `expose_errors`: tell callers the type, text and
    traceback of an unexpected error, which is otherwise only logged (logger `aipc`).
    """

    def __init__(self, *, expose_errors: bool = False) -> None:
        self.expose_errors: bool = expose_errors
        self._methods: dict[str, Method] = {}

    @overload
    def method(self, function: Function, /) -> Function: ...
    @overload
    def method(self, name: str | None = None, /) -> Callable[[Function], Function]: ...
    def method(self, function: Any = None, /) -> Any:
        """Add a function under its own name, or `@router.method("name")`. ValueError for a name that is taken or reserved.

        TypeError for an annotation that cannot be resolved, or that msgspec does not support.
        """
        if callable(function):
            self.add(function)
            return function

        def decorate(decorated: Function) -> Function:
            self.add(decorated, function)
            return decorated

        return decorate

    def add(self, function: Callable[..., Any], name: str | None = None) -> None:
        """Like `method`, for a callable that is not a module's function: a bound method, a partial."""
        name = name or function.__name__
        if name.startswith(_RESERVED):
            raise ValueError(f"method {name!r}: names that begin with {' or '.join(_RESERVED)} are reserved")
        if name in self._methods:
            raise ValueError(f"method {name!r}: there is one already")
        self._methods[name] = Method(name, function)

    def get(self, name: str) -> Method | None:
        """Return the method of that name."""
        return self._methods.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._methods

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self._methods) or 'nothing'}>"
