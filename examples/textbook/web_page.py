"""Advanced Linux Programming, listing 5.12: get a server's home page, as HTTP/0.9 has it.

`python web_page.py client PORT` gets it; `python web_page.py server PORT` has one. Port 0: the kernel picks one. Without an argument,
both.
"""

import sys

import anyio
from anyio.abc import SocketAttribute

import aipc

PAGE = b"<html><body>Home.</body></html>\n"


async def answer(client: aipc.Channel) -> None:
    if (await client.receive()).rstrip(b"\r") == b"GET /":
        await client.send(PAGE.rstrip(b"\n"))


async def server(port: str) -> None:
    async with aipc.listen(f"tcp://127.0.0.1:{port}", framing="lines") as listener:
        print(f"listening on port {listener.extra(SocketAttribute.local_port)}", flush=True)
        await listener.serve(answer)


async def client(port: str) -> None:
    async with aipc.open_channel(f"tcp://localhost:{port}", framing="none") as channel:
        await channel.send(b"GET /\n")
        async for data in channel:
            print(data.decode(), end="")


async def main() -> None:
    async with aipc.popen([sys.executable, __file__, "server", "0"], framing="lines") as program:
        await client((await program.receive()).split()[-1].decode())
        program.terminate()


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"server": server, "client": client, "main": main}[which], *arguments)
