"""Lecture notes, pipe1 to pipe4: a pipe in one process, to a child, and to another program that gets the descriptor's number.

`python pipes_notes.py pipe1`, `pipe2`, `pipe3` or `pipe4 NUMBER`; without an argument, one after the other.
`pipe3 PROGRAM ARGUMENT...` starts that program in place of pipe4, with the number as its last argument.
"""

import sys

import anyio

import aipc

DATA = b"123"


async def pipe1() -> None:
    """Write and read in one process."""
    receiver, sender = aipc.pipe(framing="none")
    async with receiver, sender:
        await sender.send(DATA)
        print(f"pipe1 wrote {len(DATA)} bytes")
        data = await receiver.receive()
        print(f"pipe1 read {len(data)} bytes: {data.decode()}")


async def child(channel: aipc.Channel) -> None:
    data = await channel.receive()
    print(f"pipe2's child read {len(data)} bytes: {data.decode()}", flush=True)


async def pipe2() -> None:
    """What fork(2) does in the book, `aipc.spawn` does here: the child runs a function, and has a channel."""
    async with aipc.spawn(child) as worker:
        await worker.channel.send(DATA)


async def pipe3(*program: str) -> None:
    """Start pipe4, which finds the number of the pipe's end in its arguments."""
    receiver, sender = aipc.pipe(framing="none")
    number = receiver.extra(aipc.ChannelAttribute.descriptor)
    command = [*(program or (sys.executable, __file__, "pipe4")), str(number)]
    async with sender, aipc.popen(command, pass_fds=[receiver], framing="lines") as started:
        await receiver.aclose()  # the child has its own
        await sender.send(DATA)
        print(f"pipe3 wrote {len(DATA)} bytes")
        await sender.send_eof()
        async for line in started:
            print(line.decode())


async def pipe4(number: str) -> None:
    async with aipc.open_channel(f"fd:{number}", framing="none") as pipe:
        data = await pipe.receive()
        print(f"pipe4 read {len(data)} bytes: {data.decode()}")


async def main() -> None:
    for program in (pipe1, pipe2, pipe3):
        sys.stdout.flush()  # the child prints, too
        await program()


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"pipe1": pipe1, "pipe2": pipe2, "pipe3": pipe3, "pipe4": pipe4, "main": main}[which], *arguments)
