"""Typed stubs: a class of annotated methods, called elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .method import describe

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")


def stub(client: Client, interface: type[T]) -> T:
    """An instance of a subclass of `interface` whose methods call `client`. TypeError for what is no async method."""
    methods = {}
    for name, function in inspect.getmembers(interface, inspect.isfunction):
        if not name.startswith("_"):
            methods[name] = _method(client, name, function)
    if not methods:
        raise TypeError(f"bind({interface.__name__}): the class declares no methods")
    made: Any = type(interface)  # a metaclass of its own, such as that of protocols
    kind = made(f"{interface.__name__}Stub", (interface,), {**methods, "__init__": lambda self: None})
    return cast(T, kind())


def _method(client: Client, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
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

        def stream(self: object, *args: Any, **kwargs: Any) -> Any:
            positional, named = given(self, args, kwargs)
            return client.stream(name, *positional, returns=declared.result, **named)

        return stream
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"bind: {function.__qualname__} is not async")

    async def call(self: object, *args: Any, **kwargs: Any) -> Any:
        positional, named = given(self, args, kwargs)
        return await client.call(name, *positional, returns=declared.result, **named)

    return call
