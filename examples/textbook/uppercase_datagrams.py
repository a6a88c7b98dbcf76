"""Lecture notes, Unix datagrams: the server answers each with the same text in capitals.

`python uppercase_datagrams.py server PATH` and `... client PATH WORD...`; without an argument, both.
"""

import sys
import tempfile

import anyio

import aipc


async def server(path: str) -> None:
    async with aipc.open_channel("unix+dgram:", bind=path) as channel:
        print("server waiting", flush=True)
        while True:
            message = await channel.receive_message()
            print(f"server received {len(message.data)} bytes", flush=True)
            await channel.send(message.data.upper(), to=message.sender)


async def client(path: str, *words: str) -> None:
    async with aipc.open_channel(f"unix+dgram:{path}") as channel:  # has a name of its own, for the answer
        for number, word in enumerate(words, 1):
            await channel.send(word.encode())
            print(f"response {number}: {(await channel.receive()).decode()}")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/ud_ucase"
        async with aipc.popen([sys.executable, __file__, "server", path], framing="lines") as program:
            print((await program.receive()).decode())
            await client(path, "hello", "world")
            for _ in range(2):
                print((await program.receive()).decode())
            program.terminate()


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"server": server, "client": client, "main": main}[which], *arguments)
