"""Kalin, part 3, server and client: the client sends the titles of books over TCP, and the server sends each one back.

`python books.py server 9876` and `python books.py client 9876` in two terminals; without an argument, both.
"""

import sys

import anyio
from anyio.abc import SocketAttribute

import aipc

TITLES = ("War and Peace", "Pride and Prejudice", "The Sound and the Fury")


async def echo(client: aipc.Channel) -> None:
    async for data in client:
        print(data.decode(), flush=True)
        await client.send(data)


async def server(port: str = "9876") -> None:
    async with aipc.listen(f"tcp://127.0.0.1:{port}", framing="none") as listener:
        print(f"listening on port {listener.extra(SocketAttribute.local_port)}", flush=True)
        await listener.serve(echo)


async def client(port: str = "9876") -> None:
    async with aipc.open_channel(f"tcp://localhost:{port}", framing="none") as channel:
        for title in TITLES:
            await channel.send(title.encode())
            print("echo:", (await channel.receive()).decode())
    print("client done")


async def main() -> None:
    async with aipc.popen([sys.executable, __file__, "server", "0"], framing="lines") as program:
        await client((await program.receive()).split()[-1].decode())
        for _ in TITLES:
            print("server:", (await program.receive()).decode())
        program.terminate()


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"server": server, "client": client, "main": main}[which], *arguments)
