"""Kalin, part 2, pipeUN: the parent writes a line into an unnamed pipe, and the child reads it byte by byte.

`python pipes_kalin.py` does both. `python pipes_kalin.py writer PROGRAM ARGUMENT...` starts that program as the child, with the number
of the pipe's end as its last argument; `python pipes_kalin.py reader NUMBER` is such a child.
"""

import sys

import anyio

import aipc


async def writer(*program: str) -> None:
    receiver, sender = aipc.pipe(framing="none")
    number = receiver.extra(aipc.ChannelAttribute.descriptor)
    command = [*(program or (sys.executable, __file__, "reader")), str(number)]
    async with sender, aipc.popen(command, pass_fds=[receiver]) as child:
        await receiver.aclose()
        await sender.send(b"All the leaves are brown\n")
        await sender.send_eof()
        async for data in child:
            print(data.decode(), end="")
        await child.wait()
    print(f"the child ended with {child.returncode}")


async def reader(number: str) -> None:
    async with aipc.open_channel(f"fd:{number}", framing="fixed:1") as pipe:
        async for byte in pipe:
            print(byte.decode(), end="")


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["writer"]
    anyio.run({"writer": writer, "reader": reader}[which], *arguments)
