"""Beej, "Unix sockets", spair: a pair of connected sockets, one of which a child gets; it sends back what it reads, in capitals.

`python spair.py` does both. `python spair.py parent PROGRAM ARGUMENT...` starts that program as the child, with the number of its socket as
the last argument; `python spair.py child NUMBER` is such a child. Between two aipc programs `aipc.channel_pair` does the same.
"""

import socket
import sys

import anyio

import aipc


async def parent(*program: str) -> None:
    ours, theirs = socket.socketpair()
    command = [*(program or (sys.executable, __file__, "child")), str(theirs.fileno())]
    async with (
        aipc.open_channel(f"fd:{ours.detach()}", framing="fixed:1") as pair,
        aipc.popen(command, "w", pass_fds=[theirs]) as child,
    ):
        theirs.close()
        await pair.send(b"b")
        print("parent: sent 'b'", flush=True)
        print(f"parent: read '{(await pair.receive()).decode()}'", flush=True)
        await child.wait()


async def child(number: str) -> None:
    async with aipc.open_channel(f"fd:{number}", framing="fixed:1") as pair:
        byte = await pair.receive()
        await pair.send(byte.upper())


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["parent"]
    anyio.run({"parent": parent, "child": child}[which], *arguments)
