"""Await the lines of standard input while other tasks go on: typed at a terminal, written into a pipe, or read from a file.

`python examples/await_stdin.py` is a demonstration of all three.
`python examples/await_stdin.py lines` is the program: type lines, and end with Ctrl-D; or `... lines < some.txt`, or `echo hi | ... lines`.
"""

import asyncio
import os
import subprocess
import sys
import tempfile

import aipc


async def tick(seconds: list[int]) -> None:
    while True:
        await asyncio.sleep(0.1)
        seconds[0] += 1


async def lines() -> None:
    ticks = [0]
    ticker = asyncio.create_task(tick(ticks))  # goes on while this awaits a line
    async with aipc.open_channel("fd:0", framing="lines") as stdin:  # owns descriptor 0 from here on
        async for line in stdin:
            print(f"got {line.decode()!r}", flush=True)
    ticker.cancel()
    print("end of input", flush=True)


async def demonstrate() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"from a file\nits second line\n")
        file.seek(0)
        terminal, its_other_side = os.openpty()
        for name, stdin in (("a file", file), ("a pipe", subprocess.PIPE), ("a terminal", its_other_side)):
            child = await asyncio.create_subprocess_exec(sys.executable, __file__, "lines", stdin=stdin, stdout=subprocess.PIPE)
            if name == "a terminal":
                os.write(terminal, b"typed\n\x04")  # what the keyboard sends; Ctrl-D ends the input
            output, _ = await child.communicate(b"from a pipe\n" if name == "a pipe" else None)
            print(f"{name}:", output.decode().replace("\n", "; "))
            assert child.returncode == 0
            assert output.endswith(b"end of input\n")
        os.close(its_other_side)
        os.close(terminal)


if __name__ == "__main__":
    asyncio.run(lines() if sys.argv[1:] else demonstrate())
