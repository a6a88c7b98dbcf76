"""`aipc call`: one call of a service, from the shell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import anyio
import typer

from aipc._io.loop import backend


class Codec(StrEnum):
    """How messages are written."""

    msgpack = "msgpack"
    json = "json"


def call(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the service listens.")],
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The method's name.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENT", help="JSON, or else text; name=value goes by name.")
    ] = None,
    codec: Annotated[Codec, typer.Option(help="The service's codec.")] = Codec.msgpack,
    stream: Annotated[bool, typer.Option("--stream", help="Print the items of a stream as they come.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds until the call is given up.")] = None,
) -> None:
    """Call a service's method, and print the result.

    The service is one of `aipc.rpc`, the result a line of JSON.
    """
    backend.run("asyncio", _call, url, method, args or [], codec.value, stream, timeout)


async def _call(url: str, method: str, args: Sequence[str], codec: Any, stream: bool, timeout: float | None) -> None:
    from aipc import rpc  # needs msgspec, which the other commands do not

    positional, named = arguments(args)
    with anyio.fail_after(timeout):
        async with rpc.connect(url, codec) as client:
            if not stream:
                _print(await client.call(method, *positional, **named))
                return
            async with client.stream(method, *positional, **named) as items:
                async for item in items:
                    _print(item)


def arguments(args: Sequence[str]) -> tuple[list[Any], Mapping[str, Any]]:
    """Each as JSON, or else as the text that it is; `name=value` goes by name."""
    positional, named = [], {}
    for each in args:
        name, equals, value = each.partition("=")
        if equals and name.isidentifier():
            named[name] = _value(value)
        else:
            positional.append(_value(each))
    return positional, named


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _print(value: Any) -> None:
    import msgspec

    print(msgspec.json.encode(value).decode(), flush=True)
