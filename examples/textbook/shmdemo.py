"""Beej, "Shared memory segments", shmdemo: with a word, write it into the segment; without one, print what is there.

`python shmdemo.py shmdemo hello` and `python shmdemo.py shmdemo` in one directory, which has a file shmdemo.c; without an argument,
both. The segment stays: `aipc remove 'sysv-shm:shmdemo.c?project=82'` removes it.
"""

import sys
import tempfile
from pathlib import Path

import anyio

import aipc

KEY, PROJECT = "shmdemo.c", ord("R")


async def shmdemo(word: str = "") -> None:
    with aipc.SysVSharedMemory.open_or_create(KEY, 1024, project=PROJECT, mode=0o644) as segment:
        if word:
            print(f'writing to segment: "{word}"')
            segment.buf[: len(word) + 1] = word.encode() + b"\0"
        else:
            print(f'segment contains: "{bytes(segment.buf).split(bytes(1), 1)[0].decode()}"')


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, KEY).touch()
        for word in (["hello"], []):
            async with aipc.popen([sys.executable, __file__, "shmdemo", *word], cwd=directory, framing="lines") as program:
                print((await program.receive()).decode())
        aipc.remove_object("sysv-shm", f"{directory}/{KEY}", project=PROJECT)


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"shmdemo": shmdemo, "main": main}[which], *arguments)
