"""Lecture notes and Unit V, an internet server with several clients at once: each sends characters, and gets the next one back.

`python iserver.py server 9734` and `python iserver.py client 9734` in two terminals; without an argument, a server and two clients that
are connected at the same time. The book's server forks for each client; here each has a task.
"""

import sys

import anyio
from anyio.abc import SocketAttribute

import aipc


async def answer(client: aipc.Channel) -> None:
    async for char in client:
        await client.send(bytes([char[0] + 1]))


async def server(port: str = "9734") -> None:
    async with aipc.listen(f"tcp://127.0.0.1:{port}", framing="fixed:1") as listener:
        print(f"listening on port {listener.extra(SocketAttribute.local_port)}", flush=True)
        await listener.serve(answer)


async def client(port: str = "9734", char: str = "A") -> None:
    async with aipc.open_channel(f"tcp://127.0.0.1:{port}", framing="fixed:1") as channel:
        await channel.send(char.encode())
        print("char from server =", (await channel.receive()).decode())


async def main() -> None:
    async with aipc.popen([sys.executable, __file__, "server", "0"], framing="lines") as program:
        port = (await program.receive()).split()[-1].decode()
        async with aipc.open_channel(f"tcp://127.0.0.1:{port}", framing="fixed:1") as idle:  # connected, and silent
            await client(port)
            await idle.send(b"x")
            print("the other client has", (await idle.receive()).decode())
        program.terminate()


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"server": server, "client": client, "main": main}[which], *arguments)
