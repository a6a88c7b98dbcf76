"""The parameters and the result of a call, by a function's annotations."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .errors import InvalidParameters
from .wires.base import Failure, Params, Wire

Arguments = tuple[Sequence[Any], Mapping[str, Any]]
_EMPTY = inspect.Parameter.empty
_UNCHECKED = (Any, object, _EMPTY)
_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)


class Signature(NamedTuple):
    """A function's parameters with their types, and the type of its result, or of each item if it streams."""

    parameters: tuple[inspect.Parameter, ...]
    result: Any
    streams: bool


def describe(function: Callable[..., Any]) -> Signature:
    """Read the parameters and the result of `function`. TypeError for an annotation that cannot be resolved."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError as error:
        raise TypeError(f"{_name(function)}: {error.name!r} in an annotation is not known in its module") from error
    result = signature.return_annotation
    streams = inspect.isasyncgenfunction(function)
    if typing.get_origin(result) in _STREAMS or result in _STREAMS:
        result, streams = (typing.get_args(result) or (Any,))[0], True
    return Signature(tuple(signature.parameters.values()), Any if result is _EMPTY else result, streams)


class Method:
    """A function that can be called remotely."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name: str = name
        self.function: Callable[..., Any] = function
        parameters, self._result, streams = describe(function)
        self.streams: bool = streams
        self._positional = _struct(name, [each for each in parameters if each.kind is not each.KEYWORD_ONLY], array_like=True)
        self._named = _struct(name, parameters, array_like=False)
        self._names = tuple(each.name for each in parameters)
        self._only_positional = frozenset(each.name for each in parameters if each.kind is each.POSITIONAL_ONLY)
        self._needs_names = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is _EMPTY]
        self._checks = self._result not in _UNCHECKED and _is_known(self._result)

    def arguments(self, wire: Wire, params: Params) -> Arguments:
        """Return the arguments for the function. InvalidParameters if they do not fit it."""
        try:
            if wire.is_named(params):
                return self._by_name(wire.decode(params, self._named))
            if self._needs_names:
                raise InvalidParameters(InvalidParameters.CODE, f"{self.name}: {', '.join(self._needs_names)}: only by name")
            return _given(wire.decode(params, self._positional)), {}
        except Failure as error:
            raise InvalidParameters(InvalidParameters.CODE, f"{self.name}: {error}") from None

    def _by_name(self, values: Struct) -> Arguments:
        found = {
            name: value for name, value in zip(self._names, msgspec.structs.astuple(values), strict=True) if value is not UNSET
        }
        if not self._only_positional:
            return (), found
        return [found.pop(name) for name in self._names if name in self._only_positional and name in found], found

    def check(self, result: Any) -> Any:
        """Return the result, or an item, converted. msgspec.ValidationError if it does not have the annotated type."""
        if not self._checks:
            return result
        try:
            return msgspec.convert(result, self._result)
        except msgspec.ValidationError:  # also for values that have the type only when encoded, such as an Enum
            return msgspec.msgpack.decode(msgspec.msgpack.encode(result), type=self._result)


def _struct(name: str, parameters: Sequence[inspect.Parameter], *, array_like: bool) -> type[Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for number, parameter in enumerate(parameters):
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise TypeError(f"method {name!r}: *{parameter.name} can't be called from elsewhere: take a list or a dict")
        type = Any if parameter.annotation is _EMPTY else parameter.annotation
        if parameter.default is _EMPTY:
            fields.append((f"p{number}", type))
        else:
            fields.append((f"p{number}", typing.Union[type, UnsetType], UNSET))  # noqa: UP007 - a type may be one that has no `|`
    names = {f"p{number}": parameter.name for number, parameter in enumerate(parameters)}
    struct = msgspec.defstruct(
        "Arguments", fields, array_like=array_like, forbid_unknown_fields=True, rename=names, kw_only=not array_like
    )
    msgspec.json.Decoder(struct)  # TypeError now, for a type that msgspec does not take
    return struct


def _is_known(type: Any) -> bool:
    """Whether msgspec supports it: not every type that can be written can also be read."""
    try:
        msgspec.json.Decoder(type)
    except TypeError:
        return False
    return True


def _given(values: Struct) -> tuple[Any, ...]:
    given = msgspec.structs.astuple(values)
    return given[: given.index(UNSET)] if UNSET in given else given


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
