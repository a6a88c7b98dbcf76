"""Beej, "Pipes", pipe1 to pipe3: a pipe in one process, from a child, and `ls | wc -l`.

`python pipes_beej.py pipe1`, `pipe2` or `pipe3`; without an argument, one after the other.
`pipe2 PROGRAM ARGUMENT...` starts that program as the child, with the number of the pipe's end as its last argument.
"""

import sys
import tempfile
from pathlib import Path

import anyio

import aipc


async def pipe1() -> None:
    receiver, sender = aipc.pipe(framing="none")
    async with receiver, sender:
        await sender.send(b"test")
        print("pipe1: wrote to the sending end")
        print(f'pipe1: read "{(await receiver.receive()).decode()}"')


async def child(number: str) -> None:
    async with aipc.open_channel(f"fd:{number}", framing="none") as pipe:
        await pipe.send(b"test")


async def pipe2(*program: str) -> None:
    """The child writes, the parent reads. The end that the child has must be closed here, or the pipe would have no end."""
    receiver, sender = aipc.pipe(framing="none")
    number = sender.extra(aipc.ChannelAttribute.descriptor)
    command = [*(program or (sys.executable, __file__, "child")), str(number)]
    async with receiver, aipc.popen(command, "w", pass_fds=[sender]) as started:
        await sender.aclose()
        async for data in receiver:
            print(f'pipe2: the parent read "{data.decode()}"')
        await started.wait()
    print(f"pipe2: the child ended with {started.returncode}")


async def pipe3(directory: str = ".") -> None:
    """`ls | wc -l`. No dup2(2) is needed: each program's descriptors 0 and 1 are set before it starts."""
    async with aipc.pipeline(["ls", directory], ["wc", "-l"]) as count:
        print("pipe3: files:", (await count.communicate()).decode().strip())


async def main() -> None:
    await pipe1()
    await pipe2()
    with tempfile.TemporaryDirectory() as directory:
        for name in ("one", "two", "three"):
            Path(directory, name).touch()
        await pipe3(directory)


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"pipe1": pipe1, "pipe2": pipe2, "pipe3": pipe3, "child": child, "main": main}[which], *arguments)
