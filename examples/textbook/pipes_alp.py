"""Advanced Linux Programming, listing 5.7: a parent writes lines into a pipe, and its child prints them.

`python pipes_alp.py` does both. `python pipes_alp.py writer PROGRAM ARGUMENT...` starts that program as the child, with the number of
the pipe's end as its last argument; `python pipes_alp.py reader NUMBER` is such a child.
"""

import sys

import anyio

import aipc


async def writer(*program: str) -> None:
    receiver, sender = aipc.pipe(framing="lines")
    number = receiver.extra(aipc.ChannelAttribute.descriptor)
    command = [*(program or (sys.executable, __file__, "reader")), str(number)]
    async with sender, aipc.popen(command, pass_fds=[receiver], framing="lines") as child:
        await receiver.aclose()
        for _ in range(5):
            await sender.send(b"Hello, world.")
        await sender.send_eof()
        async for line in child:
            print(line.decode())


async def reader(number: str) -> None:
    async with aipc.open_channel(f"fd:{number}", framing="lines") as pipe:
        async for line in pipe:
            print(line.decode())


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["writer"]
    anyio.run({"writer": writer, "reader": reader}[which], *arguments)
