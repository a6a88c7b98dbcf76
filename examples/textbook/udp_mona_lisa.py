"""Lecture notes, a datagram: the sender sends a text to a port, the receiver prints it and who sent it.

`python udp_mona_lisa.py receiver PORT` and `... sender PORT TEXT`; port 0: the kernel picks one. Without an argument, both.
"""

import sys

import anyio
from anyio.abc import SocketAttribute

import aipc


async def receiver(port: str) -> None:
    async with aipc.open_channel("udp:", bind=f"127.0.0.1:{port}") as channel:
        print(f"receiving at port {channel.extra(SocketAttribute.local_port)}", flush=True)
        message = await channel.receive_message()
        assert message.sender is not None
        print(f'from {message.sender[0]}: "{message.data.decode()}"')


async def sender(port: str, text: str = "Mona Lisa") -> None:
    async with aipc.open_channel("udp:") as channel:  # sendto(2): not connected
        await channel.send(text.encode(), to=("127.0.0.1", int(port)))
    print(f"sent {len(text)} bytes")


async def main() -> None:
    async with aipc.popen([sys.executable, __file__, "receiver", "0"], framing="lines") as program:
        await sender((await program.receive()).split()[-1].decode())
        print((await program.receive()).decode())


if __name__ == "__main__":
    which, *arguments = sys.argv[1:] or ["main"]
    anyio.run({"receiver": receiver, "sender": sender, "main": main}[which], *arguments)
