"""Pass an open file to another process, which could not open it: the file has no name any more.

`python examples/hand_over_a_file.py` is a demonstration: it starts a second process, which counts the file's lines.
"""

import asyncio
import os
import sys
import tempfile

import aipc


async def worker(url: str) -> None:
    async with aipc.open_channel(url) as channel:
        message = await channel.receive_message()
        (fd,) = message.fds  # ours from here on
        with os.fdopen(fd) as file:
            count = sum(1 for _ in file)
        print(f"pid {message.credentials.pid} handed over {message.data.decode()}: {count} lines")
        await channel.send(str(count).encode())


async def demonstrate() -> None:
    with tempfile.TemporaryDirectory() as directory:
        url = f"unix+seqpacket:{directory}/files"
        async with aipc.listen(url) as listener:
            process = await asyncio.create_subprocess_exec(sys.executable, __file__, url)
            async with asyncio.timeout(20), await listener.accept() as channel:
                with tempfile.TemporaryFile() as file:
                    file.write(b"one\ntwo\nthree\n")
                    file.seek(0)
                    await channel.send(b"a file without a name", fds=[file.fileno()])
                assert await channel.receive() == b"3"
                assert await process.wait() == 0


if __name__ == "__main__":
    asyncio.run(worker(sys.argv[1]) if sys.argv[1:] else demonstrate())
