"""How a user tests a supervised application: its real programs, and what becomes of them."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from supervisor import programs

import aipc
from aipc import rpc


@pytest.mark.asyncio
async def test_a_killed_service_comes_back(tmp_path: Path) -> None:
    url = f"unix:{tmp_path}/prices.sock"
    service = programs(url)[0]
    async with asyncio.timeout(20), aipc.supervise([service]) as supervisor:
        await supervisor.wait_ready()
        pid = supervisor.status()["prices"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while supervisor.status()["prices"].restarts < 1 or supervisor.status()["prices"].state != "running":
            await asyncio.sleep(0.001)
        async with rpc.connect(url) as client:
            assert await client.call("price", "apple", returns=float) == 0.5
    assert supervisor.status()["prices"].outcome == "exit status 0"
    assert supervisor.exit_code == 0
