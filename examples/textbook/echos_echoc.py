"""Beej, "Unix sockets", echos and echoc: the server sends back what the client sends.

`python echos_echoc.py echos` and `python echos_echoc.py echoc` in two terminals and one directory; without an argument, both.
"""

import sys
import tempfile

import anyio

import aipc

SOCKET = "unix:echo_socket?framing=none"


async def echo(client: aipc.Channel) -> None:
    print("Connected.", flush=True)
    async for data in client:
        await client.send(data)


async def echos() -> None:
    """Each client has a task of its own; the book's server has one client at a time."""
    async with aipc.listen(SOCKET) as listener:
        print("Waiting for a connection...", flush=True)
        await listener.serve(echo)


async def echoc() -> None:
    async with aipc.open_channel(SOCKET) as server, aipc.open_channel("fd:0", framing="lines") as stdin:
        print("Connected.", flush=True)
        async for line in stdin:
            await server.send(line)
            print(f"echo> {(await server.receive()).decode()}", flush=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__]
        async with aipc.popen([*command, "echos"], cwd=directory, framing="lines") as server:
            print("echos:", (await server.receive()).decode())
            async with aipc.popen([*command, "echoc"], "r+", cwd=directory, framing="lines") as client:
                print("echoc:", (await client.receive()).decode())
                print("echos:", (await server.receive()).decode())
                for line in (b"hello", b"hello again"):
                    await client.send(line)
                    print("echoc:", (await client.receive()).decode())
            server.terminate()


if __name__ == "__main__":
    anyio.run({"echos": echos, "echoc": echoc, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
