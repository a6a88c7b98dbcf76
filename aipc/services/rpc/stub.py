"""Typed stubs: a class of annotated methods that are called remotely."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from .method import describe

T = TypeVar("T")
Maker = Callable[..., Any]


def stub(interface: type[T], call: Maker, stream: Maker) -> T:
    """Return an instance of a subclass of `interface` with remote methods. TypeError for a method that is not async."""
    methods = {}
    for name, function in inspect.getmembers(interface, inspect.isfunction):
        if not name.startswith("_"):
            methods[name] = _method(name, function, call, stream)
    if not methods:
        raise TypeError(f"bind({interface.__name__}): the class declares no methods")
    made: Any = type(interface)  # a metaclass of its own, such as that of protocols
    kind = made(f"{interface.__name__}Stub", (interface,), {**methods, "__init__": lambda self: None})
    return cast(T, kind())


def _method(name: str, function: Maker, call: Maker, stream: Maker) -> Maker:
    declared = describe(function)
    signature = inspect.signature(function)
    by_name = any(each.kind is each.KEYWORD_ONLY for each in declared.parameters)

    def given(self: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = signature.bind(self, *args, **kwargs)
        if not bound.kwargs and not by_name:
            return bound.args[1:], {}
        named = dict(list(bound.arguments.items())[1:])
        return (), named

    if declared.streams:

        def make_stream(self: object, *args: Any, **kwargs: Any) -> Any:
            positional, named = given(self, args, kwargs)
            return stream(name, *positional, returns=declared.result, **named)

        return make_stream
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"bind: {function.__qualname__} is not async")

    async def make_call(self: object, *args: Any, **kwargs: Any) -> Any:
        positional, named = given(self, args, kwargs)
        return await call(name, *positional, returns=declared.result, **named)

    return make_call
