"""Kalin, part 2, sender and receiver: messages of types 1 1 2 2 3 3 are received as 3 1 2 1 3 2.

`python mq_types.py sender`, then `python mq_types.py receiver` in one directory, which has a file queue.h; without an argument, both.
"""

import sys
import tempfile
from pathlib import Path

import anyio

import aipc

QUEUE = "sysv-mq:queue.h?project=123"


async def sender() -> None:
    async with aipc.open_channel(QUEUE, create=True, mode=0o666) as queue:
        for number, kind in enumerate((1, 1, 2, 2, 3, 3), start=1):
            await queue.send(b"msg%d\0" % number, type=kind)
            print(f"msg{number} sent as type {kind}")


async def receiver() -> None:
    async with aipc.open_sysv_queue(QUEUE) as queue:
        for kind in (3, 1, 2, 1, 3, 2):
            message = await queue.receive_message(type=kind)
            print(f"{message.data.rstrip(bytes(1)).decode()} received as type {message.type}")
        queue.remove()


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "queue.h").touch()
        for half in ("sender", "receiver"):
            async with aipc.popen([sys.executable, __file__, half], cwd=directory, framing="lines") as program:
                async for line in program:
                    print(line.decode())


if __name__ == "__main__":
    anyio.run({"sender": sender, "receiver": receiver, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
