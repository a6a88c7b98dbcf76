"""Advanced Linux Programming, listings 5.8 and 5.9: lines into sort(1), by dup2 and exec, and by popen.

`python popen_sort.py dup2` or `popen`; without an argument, one after the other.
"""

import subprocess
import sys
import tempfile

import anyio

import aipc

LINES = [b"one fish", b"my dog has fleas", b"a test", b"this program", b"hello"]


async def dup2() -> None:
    """Descriptor 0 of the child is the pipe, whatever descriptor 1 is: here a file."""
    with tempfile.TemporaryFile() as output:
        async with aipc.popen(["sort"], "w", stdout=output, stderr=subprocess.DEVNULL, framing="lines") as sort:
            await sort.send_many(LINES)
        output.seek(0)  # the block has waited for the child
        print(output.read().decode(), end="")


async def popen() -> None:
    """What is printed by the child itself goes where this program prints."""
    async with aipc.popen("sort -r", "w", framing="lines") as sort:
        await sort.send_many(LINES)


async def main() -> None:
    await dup2()
    sys.stdout.flush()  # the child prints, too
    await popen()


if __name__ == "__main__":
    anyio.run({"dup2": dup2, "popen": popen, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
