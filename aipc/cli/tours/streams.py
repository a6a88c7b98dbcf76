"""asyncio's streams over a Unix socket, with a length of four bytes before each message: what `aipc bench` compares with.

`python -m aipc.cli.tours.streams LOOP PATH` connects there and answers: first the number of messages, then each message again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from time import perf_counter

import anyio

from .measuring import Figures, payload


async def measure(path: str, start: Iterable[object], messages: int, round_trips: int, size: int) -> Figures:
    """Listen at `path`, start the other process by exhausting `start`, and measure."""
    connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_unix_server(lambda *both: connected.set_result(both), path)
    for _ in start:
        pass
    reader, writer = await connected
    _put(writer, b"%d %d" % (messages, round_trips))
    await _get(reader)
    begin = perf_counter()
    for number in range(messages):
        _put(writer, payload(number, size))
        await writer.drain()
    await _get(reader)
    figures = Figures(messages / (perf_counter() - begin))
    for number in range(round_trips):
        data = payload(number, size)
        begin = perf_counter()
        _put(writer, data)
        echo = await _get(reader)
        figures.add(perf_counter() - begin, good=echo == data)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return figures


async def _answer(path: str) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    messages, round_trips = map(int, (await _get(reader)).split())
    _put(writer, b"ready")
    for _ in range(messages):
        await _get(reader)
    _put(writer, b"all")
    for _ in range(round_trips):
        _put(writer, await _get(reader))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def _put(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(len(data).to_bytes(4) + data)


async def _get(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))


if __name__ == "__main__":
    anyio.run(_answer, sys.argv[2], backend="asyncio", backend_options={"use_uvloop": sys.argv[1] == "uvloop"})
