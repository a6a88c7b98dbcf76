"""stat and change of System V segments and sets (IPC_STAT, IPC_SET): what ipcs(1) says of them, before and after."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

import aipc

from ..peers import run


def ipcs(option: str, identifier: int) -> dict[str, str]:
    """What ipcs(1) says about one object, by its own words."""
    lines = run("ipcs", option, "-i", str(identifier)).splitlines()
    pairs = [part.split("=", 1) for line in lines for part in line.replace("= ", "=").split() if "=" in part]
    return {name.strip(): value.strip() for name, value in pairs}


@pytest.mark.anyio
async def test_a_set(key: str) -> None:
    begin = int(time.time())
    async with aipc.SysVSemaphoreSet(key, exclusive=True, unlink=True, values=[1, 2, 3], mode=0o640) as row:
        status = row.stat()
        assert (status.nsems, status.mode, status.uid, status.gid) == (3, 0o640, os.getuid(), os.getgid())
        assert (status.key, status.id) == (int(key, 0), row.identifier)
        assert begin - 1 <= status.ctime <= status.otime <= time.time()
        assert row.change(mode=0o604) is None
        assert row.stat().mode == 0o604 == int(ipcs("-s", row.identifier)["mode"].split(",")[0], 8)
        assert row.stat()._replace(mode=0o640, ctime=0) == status._replace(ctime=0)
        assert row.values == [1, 2, 3]
        row.change()
        for bad in ({"mode": 0o1000}, {"mode": -1}, {"uid": -1}, {"gid": -2}):
            with pytest.raises(ValueError, match="must be"):
                row.change(**bad)
        assert row.stat().mode == 0o604


@pytest.mark.anyio
async def test_a_set_that_nobody_has_operated_on(key: str) -> None:
    """What ipcmk(1) makes: otime is 0, by which others see that it has no values yet."""
    identifier = int(run("ipcmk", "-S", "2").split()[-1])
    (found,) = [one for one in aipc.list_objects() if one.kind == "sysv-sem" and one.id == identifier]
    async with aipc.SysVSemaphoreSet(found.name, unlink=True) as row:
        assert (row.stat().nsems, row.stat().otime) == (2, 0)
        await row.operate([(0, 1)])
        assert row.stat().otime > 0


@pytest.mark.anyio
async def test_a_set_that_is_gone(key: str) -> None:
    async with aipc.SysVSemaphoreSet(key, exclusive=True) as row:
        row.remove()
        with pytest.raises(aipc.ObjectRemoved):
            row.stat()
        with pytest.raises(aipc.ObjectRemoved):
            row.change(mode=0o600)


def test_a_segment(key: str) -> None:
    with aipc.SysVSharedMemory.create(key, 5000, unlink=True) as segment, aipc.SysVSharedMemory.open(key) as other:
        status = segment.stat()
        assert (status.nattch, status.size, status.ctime) == (2, 5000, status.change_time)
        segment.change(mode=0o640)
        assert other.stat().mode == 0o640 == int(ipcs("-m", segment.id)["mode"], 8)
        assert other.stat()._replace(mode=0o600, change_time=0) == status._replace(change_time=0)
        segment.buf[0] = 7
        assert other.buf[0] == 7
        segment.unlink()
        other.change(mode=0o600)  # removed, but in use
        with pytest.raises(ValueError, match="0o1777"):
            other.change(mode=0o1777)
    for call in (segment.stat, lambda: segment.change(mode=0o600)):
        with pytest.raises(aipc.ObjectMissing, match="gone"):
            call()


NOT_OURS = """
import asyncio, os, aipc

async def main():
    segment = aipc.SysVSharedMemory.create(77, 100, mode=0o666)
    async with aipc.SysVSemaphoreSet(77, exclusive=True, mode=0o666) as row:
        row.change(uid=65534, gid=65533)
        segment.change(uid=65534, gid=65533)
        print(row.stat().uid, row.stat().gid, segment.stat().uid, segment.stat().gid)
        if os.fork() == 0:
            os.setresuid(1, 1, 1)
            for change in (row.change, segment.change):
                try:
                    change(mode=0o600)
                except (aipc.AccessDenied, aipc.ForkedError) as error:
                    print(type(error).__name__, flush=True)
            os._exit(0)
        os.wait()

asyncio.run(main())
"""


def test_another_owner(place: Path) -> None:
    if os.getuid():
        pytest.skip("takes root: users of a namespace can't be given away")
    lines = run("unshare", "--ipc", sys.executable, "-c", NOT_OURS).splitlines()
    assert lines[0] == "65534 65533 65534 65533"
    assert sorted(lines[1:]) == ["AccessDenied", "ForkedError"]
