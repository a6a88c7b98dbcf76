"""Large frames from one process to another without a copy: written and read in place, in shared memory.

`python examples/shared_frames.py` starts a camera as a second process, and measures the brightness of its frames.
"""

import asyncio
import sys
import tempfile

import aipc

WIDTH, HEIGHT, FRAMES = 640, 480, 50


async def camera(url: str) -> None:
    """Draw frames directly into the ring, then end the stream."""
    async with aipc.open_ring(url) as channel:
        for number in range(FRAMES):
            async with channel.loan(WIDTH * HEIGHT) as frame:  # waits while the ring is full
                frame[:] = bytes([number]) * len(frame)
        await channel.send_eof()


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        url = f"shm:{directory}/frames"
        async with aipc.listen_ring(url) as listener:
            process = await asyncio.create_subprocess_exec(sys.executable, __file__, url)
            async with await listener.accept() as channel:
                for number in range(FRAMES):
                    async with channel.receive_view() as frame:  # not valid after the block
                        assert len(frame) == WIDTH * HEIGHT
                        assert frame[0] == frame[-1] == number
                print(f"{FRAMES} frames, {channel.statistics().bytes_received:,} bytes, none of them copied on the way")
            await process.wait()


if __name__ == "__main__":
    asyncio.run(camera(sys.argv[1]) if len(sys.argv) > 1 else main())
