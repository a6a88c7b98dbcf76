"""Advanced Linux Programming, listings 5.5 and 5.6: a number in a mapped file; the reader prints it, and doubles it there.

`python mmap_number.py write FILE NUMBER` and `python mmap_number.py read FILE`; without an argument, both, twice read.
"""

import sys
import tempfile

import anyio

import aipc

SIZE = 0x100


async def write(path: str, number: str) -> None:
    with aipc.MappedFile.open_or_create(path, SIZE) as file:
        text = b"%d\n\0" % int(number)
        file.buf[: len(text)] = text


async def read(path: str) -> None:
    with aipc.MappedFile.open(path) as file:
        number = int(bytes(file.buf).split(b"\n", 1)[0])
        print("value:", number)
        text = b"%d\n\0" % (2 * number)
        file.buf[: len(text)] = text
        await file.flush()  # not needed for other processes: only for the disk


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/integer-file"
        await write(path, "21")
        await read(path)
        await read(path)


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"write": write, "read": read, "main": main}[which], *arguments)
