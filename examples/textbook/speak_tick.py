"""Beej, "FIFOs": speak sends the lines that it is given into a FIFO, and tick prints what comes out of it.

`python speak_tick.py speak` and `python speak_tick.py tick` in two terminals and one directory; without an argument, both.
"""

import sys
import tempfile

import anyio

import aipc

FIFO = "fifo:american_maid?framing=none&create=1&mode=666"


async def speak() -> None:
    print("speak: waiting for readers", flush=True)
    async with aipc.open_channel(FIFO, direction="send") as fifo, aipc.open_channel("fd:0", framing="lines") as stdin:
        print("speak: got a reader, type some stuff", flush=True)
        async for line in stdin:
            try:
                await fifo.send(line)
            except anyio.BrokenResourceError:  # where C gets SIGPIPE
                print("speak: the reader has left", flush=True)
                return
            print(f"speak: wrote {len(line)} bytes", flush=True)


async def tick() -> None:
    print("tick: waiting for writers", flush=True)
    async with aipc.open_channel(FIFO, direction="receive", wait=True) as fifo:
        print("tick: got a writer", flush=True)
        async for data in fifo:
            print(f'tick: read {len(data)} bytes: "{data.decode()}"', flush=True)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__]
        async with (
            aipc.popen([*command, "tick"], "r", cwd=directory, framing="lines") as reader,
            aipc.popen([*command, "speak"], "r+", cwd=directory, framing="lines") as writer,
        ):
            for program in (reader, writer, reader, writer):
                print((await program.receive()).decode())
            for line in (b"Quack.", b"Louder!"):
                await writer.send(line)
                print((await writer.receive()).decode())
                print((await reader.receive()).decode())
            await writer.send_eof()
            await reader.wait()


if __name__ == "__main__":
    anyio.run({"speak": speak, "tick": tick, "main": main}[sys.argv[1] if sys.argv[1:] else "main"])
