"""Advanced Linux Programming, listing 5.1, and Unit V, shm1 and shm2: a System V segment.

`python shm.py listing` is 5.1: one process makes a private segment, writes, detaches, attaches again and reads.
`python shm.py shm1` prints what `python shm.py shm2` reads from its standard input, until that is "end". Without an argument, all.
"""

import sys

import anyio

import aipc

KEY, SIZE = 1234, 4 + 2048  # struct { int written; char text[2048]; }


async def listing() -> None:
    with aipc.SysVSharedMemory.create(None, 0x6400) as segment:
        print(f"segment size: {segment.stat().size:#x}")
        segment.buf[:14] = b"Hello, world.\0"
    with aipc.SysVSharedMemory.attach(segment.id) as again:  # perhaps at another address, which does not matter here
        print(bytes(again.buf[:13]).decode())
        again.unlink()


def written(segment: aipc.SysVSharedMemory) -> memoryview:
    """The first field, an int: whether there is a text that the consumer has yet to read."""
    return segment.buf[:4].cast("i")


async def shm1() -> None:
    """The consumer. A segment tells nobody that it has changed: this looks again and again, as the book does."""
    with aipc.SysVSharedMemory.open_or_create(KEY, SIZE, mode=0o666) as segment:
        text = b""
        while text != b"end":
            while not written(segment)[0]:
                await anyio.sleep(0.01)
            text = bytes(segment.buf[4:]).split(b"\0", 1)[0]
            print("You wrote:", text.decode(), flush=True)
            written(segment)[0] = 0
        segment.unlink()


async def shm2() -> None:
    """The producer."""
    with aipc.SysVSharedMemory.open_or_create(KEY, SIZE, mode=0o666) as segment:
        async with aipc.open_channel("fd:0", framing="lines") as stdin:
            async for line in stdin:
                while written(segment)[0]:
                    await anyio.sleep(0.01)
                segment.buf[4 : 4 + len(line) + 1] = line + b"\0"
                written(segment)[0] = 1
                if line == b"end":
                    break


async def main() -> None:
    await listing()
    command = [sys.executable, __file__]
    async with (
        aipc.popen([*command, "shm1"], "r", framing="lines") as consumer,
        aipc.popen([*command, "shm2"], "w", framing="lines") as producer,
    ):
        await producer.send_many([b"hello", b"end"])
        async for line in consumer:
            print(line.decode())


if __name__ == "__main__":
    anyio.run({"listing": listing, "shm1": shm1, "shm2": shm2, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
