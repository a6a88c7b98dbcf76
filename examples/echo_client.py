"""A client of echo_server.py.

`python examples/echo_client.py` is a demonstration: it starts a server process of its own.
`python examples/echo_client.py unix:/tmp/echo.sock hello world` sends two messages to a server that runs.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import aipc

SERVER = Path(__file__).with_name("echo_server.py")


async def ask(url: str, words: list[str]) -> None:
    async with aipc.open_channel(url) as channel:
        await channel.send_many(word.encode() for word in words)
        for _ in words:
            async with asyncio.timeout(5):
                answer = await channel.receive()
            print(answer.decode())


async def demonstrate() -> None:
    with tempfile.TemporaryDirectory() as directory:
        url = f"unix:{directory}/echo.sock"
        server = await asyncio.create_subprocess_exec(sys.executable, SERVER, url, stdout=asyncio.subprocess.PIPE)
        try:
            assert server.stdout is not None
            print((await server.stdout.readline()).decode(), end="")  # from here on it listens
            await ask(url, ["hello", "world"])
        finally:
            server.terminate()
            await server.wait()


async def main() -> None:
    if len(sys.argv) == 1:
        await demonstrate()
        return
    url, *words = sys.argv[1:]
    try:
        await ask(url, words)
    except (aipc.ObjectMissing, aipc.NobodyListens) as error:
        sys.exit(f"no server: {error}")


if __name__ == "__main__":
    asyncio.run(main())
