"""`AIPC_DISABLE`, which switches optional kernel features off: each in a process of its own, as it is read once."""

from __future__ import annotations

import subprocess
import sys

import pytest

_OPENINGS = """
import os, anyio, aipc

async def main():
    before = set(os.listdir("/proc/self/fd"))
    for open_it in (
        lambda: aipc.open_channel("sysv-mq:private"),
        lambda: aipc.open_channel("udp:?bind=127.0.0.1:0"),
        lambda: aipc.listen("tcp://127.0.0.1:0"),
        lambda: aipc.open_lock("sysv-sem:private"),
        lambda: aipc.popen("true"),
    ):
        try:
            async with open_it():
                print("opened")
        except aipc.AddressError as error:
            print(error)
    print("left", len(set(os.listdir("/proc/self/fd")) - before))

anyio.run(main)
"""


def opened_with(disabled: str) -> list[str]:
    command = ["env", f"AIPC_DISABLE={disabled}", sys.executable, "-c", _OPENINGS]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_an_unknown_feature_is_named() -> None:
    """A typo would test what is there, in place of the fallback. Every opening fails, and leaves nothing open."""
    *errors, left = opened_with("timerfd,spim,Doorbell")
    text = "AIPC_DISABLE: no feature is called Doorbell, spim; there are doorbell, membarrier, native, order, spin, timerfd, tmpfile"
    assert errors == [text] * 5
    assert left == "left 0"


@pytest.mark.parametrize("disabled", ["", "spin", " spin , timerfd,", "doorbell,membarrier,native,order,spin,timerfd,tmpfile"])
def test_known_features(disabled: str) -> None:
    *lines, _ = opened_with(disabled)
    assert lines == ["opened"] * 5
