"""Advanced Linux Programming, listings 5.10 and 5.11: texts over a Unix socket, each with its length in front; "quit" ends the server.

`python socket_messages.py server PATH`, then `... client PATH TEXT`; without an argument, a server and three clients.
"""

import sys
import tempfile

import anyio

import aipc

FRAMING = "u32le"  # a C int on this machine


async def server(path: str) -> None:
    async with aipc.listen(f"unix:{path}", framing=FRAMING) as listener:
        print("ready", flush=True)
        text = ""
        while text != "quit":
            async with await listener.accept() as client:
                async for data in client:
                    text = data.rstrip(b"\0").decode()
                    print(text, flush=True)


async def client(path: str, text: str) -> None:
    async with aipc.open_channel(f"unix:{path}", framing=FRAMING) as channel:
        await channel.send(text.encode() + b"\0")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        async with aipc.popen([sys.executable, __file__, "server", path], framing="lines") as program:
            print("server:", (await program.receive()).decode())
            for text in ("Hello, world.", "This is a test.", "quit"):
                await client(path, text)
                print("server:", (await program.receive()).decode())
            await program.wait()


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"server": server, "client": client, "main": main}[which], *arguments)
