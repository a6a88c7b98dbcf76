"""Beej, "Message queues": kirk sends the lines that he is given, and spock prints what he receives.

`python kirk_spock.py kirk` and `python kirk_spock.py spock` in two terminals and one directory, which has a file kirk.c; without an
argument, both. With two spocks, each message goes to one of them. When kirk ends, he removes the queue.
"""

import sys
import tempfile
from pathlib import Path

import anyio

import aipc

QUEUE = "sysv-mq:kirk.c?project=66"  # ftok("kirk.c", 'B')


async def kirk() -> None:
    async with (
        aipc.open_channel(QUEUE, create=True, mode=0o644, unlink=True) as queue,
        aipc.open_channel("fd:0", framing="lines") as stdin,
    ):
        print("Enter lines of text, ^D to quit:", flush=True)
        async for line in stdin:
            await queue.send(line + b"\0")


async def spock() -> None:
    async with aipc.open_channel(QUEUE) as queue:
        print("spock: ready to receive messages, captain.", flush=True)
        try:
            async for text in queue:
                print(f'spock: "{text.rstrip(bytes(1)).decode()}"', flush=True)
        except aipc.ObjectRemoved:
            print("spock: the queue was removed", flush=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "kirk.c").touch()
        command = [sys.executable, __file__]
        async with aipc.popen([*command, "kirk"], "r+", cwd=directory, framing="lines") as sends:
            print((await sends.receive()).decode())
            async with aipc.popen([*command, "spock"], cwd=directory, framing="lines") as receives:
                print((await receives.receive()).decode())
                for line in (b"Beam me up.", b"Quickly!"):
                    await sends.send(line)
                    print((await receives.receive()).decode())
                await sends.send_eof()
                print((await receives.receive()).decode())


if __name__ == "__main__":
    anyio.run({"kirk": kirk, "spock": spock, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
