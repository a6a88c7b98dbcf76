"""`aipc call`: one call of a service, from the shell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import msgspec

from aipc import rpc
from aipc._io.loop import backend


def run(url: str, method: str, args: Sequence[str], *, codec: Any, stream: bool, timeout: float | None) -> None:
    """Call, and print the result as a line of JSON; each item, if it is a stream. Errors as `Client.call`."""
    backend.run("asyncio", _call, url, method, args, codec, stream, timeout)


async def _call(url: str, method: str, args: Sequence[str], codec: Any, stream: bool, timeout: float | None) -> None:
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
    print(msgspec.json.encode(value).decode(), flush=True)
