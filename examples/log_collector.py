"""One collector of lines from many programs, over a FIFO: shell commands and Python workers open it, write to it, and close it.

`python examples/log_collector.py` makes the FIFO, starts the writers, prints what they say, and removes the FIFO.

`keep_open` lets the collector outlive its writers: without it the first `echo` would be the end. A line of up to 4,095 bytes is
never torn by another one, whoever writes it.
"""

import asyncio
import os
import sys
import tempfile

import aipc


async def report(path: str) -> None:
    """A worker: three lines."""
    async with aipc.open_channel(f"fifo:{path}", direction="send", framing="lines") as log:
        for step in range(3):
            await log.send(f"worker {os.getpid()}: step {step}".encode())


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/log"
        async with aipc.open_channel(f"fifo:{path}", framing="lines", exclusive=True, unlink=True, keep_open=True) as log:
            shell = await asyncio.create_subprocess_exec("sh", "-c", 'echo "shell: hello" > "$1"', "sh", path)
            workers = [await asyncio.create_subprocess_exec(sys.executable, __file__, path) for _ in range(2)]
            async with asyncio.timeout(10):
                for _ in range(1 + 3 * len(workers)):
                    print((await log.receive()).decode())
            for child in (shell, *workers):
                await child.wait()


if __name__ == "__main__":
    asyncio.run(report(sys.argv[1]) if len(sys.argv) > 1 else main())
