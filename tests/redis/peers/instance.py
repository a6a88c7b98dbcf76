"""An instance of a service: `python -m` this, with a URL."""

from __future__ import annotations

import os
import sys

import anyio

import aipc
from aipc import rpc

router = rpc.Router()


@router.method
async def pid() -> int:
    return os.getpid()


@router.method
async def wait() -> None:
    await anyio.sleep_forever()


async def main(url: str) -> None:
    async with aipc.listen(url) as listener:
        print("listens", flush=True)
        await rpc.serve(listener, router)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
