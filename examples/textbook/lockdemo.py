"""Beej, "File locking", lockdemo: press Return to lock the file lockdemo.c, and again to unlock it.

`python lockdemo.py lockdemo` in two terminals and one directory: the second waits for the first. Without an argument, both.
"""

import sys
import tempfile
from pathlib import Path

import anyio

import aipc


async def lockdemo() -> None:
    async with (
        aipc.open_lock("fcntl:lockdemo.c?owner=process", create=False) as lock,
        aipc.open_channel("fd:0", framing="lines") as stdin,
    ):
        print("Press <RETURN> to try to get lock:", flush=True)
        await stdin.receive()
        print("Trying to get lock...", flush=True)
        async with lock:
            print("got lock", flush=True)
            print("Press <RETURN> to release lock:", flush=True)
            await stdin.receive()
        print("Unlocked.", flush=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "lockdemo.c").touch()
        command = [sys.executable, __file__, "lockdemo"]
        async with (
            aipc.popen(command, "r+", cwd=directory, framing="lines") as first,
            aipc.popen(command, "r+", cwd=directory, framing="lines") as second,
        ):

            async def show(program: aipc.Channel, lines: int) -> None:
                for _ in range(lines):
                    print("first: " if program is first else "second:", (await program.receive()).decode())

            await show(first, 1)
            await first.send(b"")
            await show(first, 3)
            await show(second, 1)
            await second.send(b"")
            await show(second, 1)  # and it waits
            await first.send(b"")
            await show(first, 1)
            await show(second, 2)
            await second.send(b"")
            await show(second, 1)


if __name__ == "__main__":
    anyio.run({"lockdemo": lockdemo, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
