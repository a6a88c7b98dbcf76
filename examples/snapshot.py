"""A sensor publishes its latest reading; displays open it, read and close it, and never delay the sensor.

`python examples/snapshot.py` is a demonstration: a sensor that is killed, its successor, and two displays.
`python examples/snapshot.py sensor /thermometer` is one sensor, which goes on where a dead one stopped; run another to see it
refused, and `python examples/snapshot.py display /thermometer` in any number of windows.

Where each reading counts, use a channel: a display that is slow misses some here, and sees the latest one.
"""

import asyncio
import os
import sys

import aipc

LARGEST = 100


async def sensor(name: str) -> None:
    try:
        snapshot = aipc.Snapshot.create(name, LARGEST)
    except aipc.ObjectExists:
        snapshot = aipc.Snapshot.open(name, write=True)  # of a dead sensor; a live one's is ObjectExists again
    with snapshot:
        while True:
            snapshot.publish(f"{snapshot.number} by {os.getpid()}".encode())
            await asyncio.sleep(0.01)


async def display(name: str, readings: int) -> None:
    with aipc.Snapshot.open(name) as snapshot:
        for _ in range(readings):
            print("display:", (await snapshot.changed()).decode(), flush=True)


async def demonstrate() -> None:
    name = f"/example-{os.getpid()}"
    command = [sys.executable, __file__, "sensor", name]
    sensors = [await asyncio.create_subprocess_exec(*command)]
    try:
        with await opened(name) as snapshot:
            await asyncio.gather(display(name, 3), display(name, 2))
            sensors[0].kill()  # perhaps in the middle of a reading
            await sensors[0].wait()
            print("killed; the last whole reading:", snapshot.latest())
            sensors.append(await asyncio.create_subprocess_exec(*command))
            print("its successor goes on:", await snapshot.changed())
    finally:
        for process in sensors:
            if process.returncode is None:
                process.kill()
            await process.wait()
        aipc.remove_object("posix-shm", name)  # its owner was killed, so no other process removes it


async def opened(name: str) -> aipc.Snapshot:
    while True:
        try:
            return aipc.Snapshot.open(name)
        except aipc.ObjectMissing:
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        asyncio.run(demonstrate())
    elif sys.argv[1] == "sensor":
        asyncio.run(sensor(sys.argv[2]))
    else:
        asyncio.run(display(sys.argv[2], sys.maxsize))
