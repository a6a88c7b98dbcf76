"""What goes beside the two protocols: notifications, which a peer that does not know them passes over.

| method            | params                | means |
| ----------------- | --------------------- | --- |
| `$/cancelRequest` | [id], or {"id": id}   | the caller gave up; the call is still answered (Language Server Protocol) |
| `$/request`       | [id, seconds, credit] | of the request that follows: time until its deadline, or null; items that its stream may send at once, or null |
| `$/item`          | [id, value]           | the next item of a stream; its end is the answer to the call |
| `$/credit`        | [id, count]           | so many items more may be sent |
| `$/descriptors`   | []                    | this side takes descriptors from here on; whoever is told so says it back |
| `$/window`        | [count]               | so many calls may be unanswered at once; whoever calls says it first, whoever answers says it back |
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from .wire import Failure, Id, Params, Wire

CANCEL = "$/cancelRequest"
REQUEST = "$/request"
ITEM = "$/item"
CREDIT = "$/credit"
WINDOW = "$/window"
DESCRIPTORS = "$/descriptors"

FIRST_WINDOW = 8
"""Calls that may be unanswered before the peer has said how many: it must be able to keep them beside those that it runs."""
FIRST_CREDIT = 32
"""Items of a stream that may be on their way."""

_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_PARAMS: dict[str, Any] = {
    REQUEST: tuple[Id, _Seconds | None, _Count | None],
    ITEM: tuple[Id, msgspec.Raw],
    CREDIT: tuple[Id, _Count],
    WINDOW: tuple[_Count],
    CANCEL: tuple[Id],
    DESCRIPTORS: tuple[()],
}


class _Named(msgspec.Struct):
    id: Id


def params(wire: Wire, method: str, raw: Params) -> tuple[Any, ...] | None:
    """The parameters of one of these; None if it is none of them, or they are not what they should be."""
    try:
        if method == CANCEL and wire.is_named(raw):
            return (wire.decode(raw, _Named).id,)
        values: tuple[Any, ...] | None = wire.decode(raw, _PARAMS[method]) if method in _PARAMS else None
    except Failure:
        return None
    return values


def cancel(wire: Wire, id: Id) -> bytes:
    """The notification that a caller gave up."""
    return wire.notification(CANCEL, {"id": id} if wire.codec == "json" else (id,))
