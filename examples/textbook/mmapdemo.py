"""Beej, "Memory mapped files", mmapdemo: the byte at an offset of the file mmapdemo.c, as a byte of memory.

`python mmapdemo.py mmapdemo 30` in a directory that has that file; without an argument, two of them.
"""

import sys
import tempfile
from pathlib import Path

import anyio

import aipc

FILE = "mmapdemo.c"


async def mmapdemo(offset: str, path: str = FILE) -> None:
    with aipc.MappedFile.open(path, read_only=True) as file:
        if not 0 <= int(offset) < file.size:
            sys.exit(f"mmapdemo: offset must be in the range 0-{file.size - 1}")
        print(f"byte at offset {offset} is '{chr(file.buf[int(offset)])}'")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, FILE).write_text("/* a program */\n")
        for offset in ("3", "5"):
            await mmapdemo(offset, f"{directory}/{FILE}")


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"mmapdemo": mmapdemo, "main": main}[which], *arguments)
