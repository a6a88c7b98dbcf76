"""Beej, "Semaphores", semdemo and semrm: press Return to lock a semaphore, and again to unlock it; semrm removes it.

`python semdemo.py semdemo` in two terminals and one directory, which has a file semdemo.c: the second waits for the first.
`python semdemo.py semrm` removes it. Without an argument, all three.
"""

import sys
import tempfile
from pathlib import Path

import anyio

import aipc

KEY, PROJECT = "semdemo.c", ord("J")


async def semdemo() -> None:
    async with (  # whoever makes it gives it its value before the others go on
        aipc.open_lock(f"sysv-sem:{KEY}?project={PROJECT}", create=True, mode=0o666, value=1) as semaphore,
        aipc.open_channel("fd:0", framing="lines") as stdin,
    ):
        print("Press return to lock:", flush=True)
        await stdin.receive()
        print("Trying to lock...", flush=True)
        try:
            await semaphore.acquire()
        except aipc.ObjectRemoved:
            sys.exit("semdemo: the semaphore was removed")
        print("Locked.", flush=True)
        print("Press return to unlock:", flush=True)
        await stdin.receive()
        semaphore.release()
        print("Unlocked", flush=True)


async def semrm() -> None:
    aipc.remove_object("sysv-sem", KEY, project=PROJECT)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, KEY).touch()
        command = [sys.executable, __file__]
        async with (
            aipc.popen([*command, "semdemo"], "r+", cwd=directory, framing="lines") as first,
            aipc.popen([*command, "semdemo"], "r+", cwd=directory, framing="lines") as second,
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
        async with aipc.popen([*command, "semrm"], cwd=directory) as removes:
            await removes.wait()


if __name__ == "__main__":
    anyio.run({"semdemo": semdemo, "semrm": semrm, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
