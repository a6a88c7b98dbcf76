"""Kalin, part 1, memwriter and memreader: POSIX shared memory, and a POSIX semaphore that says when there is something to read.

`python memwriter_memreader.py memwriter` and `... memreader` in two terminals; without an argument, both.
"""

import sys

import anyio

import aipc

MEMORY, SIZE = "/shMemEx", 512
SEMAPHORE = "posix-sem:/mySemaphore?create=1&value=0&counter=1&mode=644"
TEXT = b"Not with a bang but a whimper"


async def memwriter() -> None:
    async with aipc.open_semaphore(SEMAPHORE, unlink=True) as written:
        with aipc.SharedMemory.open_or_create(MEMORY, SIZE, mode=0o644) as memory:
            memory.buf[: len(TEXT) + 1] = TEXT + b"\0"
            print(f"memwriter: {len(TEXT)} bytes are there to be read", flush=True)
            written.release()
            await written.wait_zero()  # the reader has it; the book sleeps for 12 seconds
            memory.unlink()


async def memreader() -> None:
    async with aipc.open_semaphore(SEMAPHORE) as written:
        with aipc.SharedMemory.open_or_create(MEMORY, SIZE, mode=0o644) as memory:
            await written.acquire()
            print("memreader:", bytes(memory.buf).split(b"\0", 1)[0].decode())


async def main() -> None:
    command = [sys.executable, __file__]
    async with (
        aipc.popen([*command, "memwriter"], framing="lines") as writer,
        aipc.popen([*command, "memreader"], framing="lines") as reader,
    ):
        print((await writer.receive()).decode())
        print((await reader.receive()).decode())


if __name__ == "__main__":
    anyio.run({"memwriter": memwriter, "memreader": memreader, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
