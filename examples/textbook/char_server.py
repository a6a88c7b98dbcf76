"""Lecture notes and Unit V, a local server and client: the client sends one character, the server answers with the next one.

`python char_server.py server` and `python char_server.py client` in two terminals and one directory; without an argument, both.
"""

import sys
import tempfile

import anyio

import aipc

SOCKET = "unix:server_socket?framing=fixed:1"


async def answer(client: aipc.Channel) -> None:
    async for char in client:
        await client.send(bytes([char[0] + 1]))


async def server() -> None:
    async with aipc.listen(SOCKET) as listener:
        print("server waiting", flush=True)
        await listener.serve(answer)


async def client(char: str = "A") -> None:
    async with aipc.open_channel(SOCKET) as channel:
        await channel.send(char.encode())
        print("char from server =", (await channel.receive()).decode())


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__]
        async with aipc.popen([*command, "server"], cwd=directory, framing="lines") as serves:
            print((await serves.receive()).decode())
            async with aipc.popen([*command, "client"], cwd=directory, framing="lines") as asks:
                print((await asks.receive()).decode())
            serves.terminate()


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"server": server, "client": client, "main": main}[which], *arguments)
