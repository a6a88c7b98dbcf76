"""An echo server over a Unix socket.

`python examples/echo_server.py` is a demonstration: server and client in one process.
`python examples/echo_server.py unix:/tmp/echo.sock` serves until Ctrl-C; then run echo_client.py with the same URL.

On uvloop: `uvloop.run(main())`. On trio: `trio.run(main)`, with a nursery for the task group.
"""

import asyncio
import contextlib
import sys
import tempfile

import aipc


async def echo(channel: aipc.Channel) -> None:
    """One client: send back what it sends, until it closes."""
    async for message in channel:
        await channel.send(message)


async def serve(url: str) -> None:
    async with aipc.listen(url) as listener:
        print(f"listening on {url}", flush=True)
        await listener.serve(echo)


async def demonstrate() -> None:
    with tempfile.TemporaryDirectory() as directory:
        url = f"unix:{directory}/echo.sock"
        async with aipc.listen(url) as listener, asyncio.TaskGroup() as tasks:
            server = tasks.create_task(listener.serve(echo))
            async with aipc.open_channel(url) as channel:
                for word in (b"hello", b"", b"x" * 1_000_000):
                    await channel.send(word)
                    answer = await channel.receive()
                    assert answer == word
                    print(f"sent {len(word):,} bytes, got {len(answer):,} back")
            server.cancel()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1]) if len(sys.argv) > 1 else demonstrate())
