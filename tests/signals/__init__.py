"""Signals received and sent, with a C program at the other end where that matters."""

from __future__ import annotations

import os
import signal
from functools import partial

import anyio

import aipc

ONE, OTHER, FLAG = signal.SIGRTMIN + 4, signal.SIGRTMIN + 5, signal.SIGUSR2
ME = os.getpid()
detailed = partial(aipc.open_signal_receiver, details=True)

PRELUDE = """
import os, signal, subprocess, sys, threading, anyio, aipc
loop, ME, ONE = sys.argv[1], os.getpid(), signal.SIGRTMIN + 4
def mask(): return signal.pthread_sigmask(signal.SIG_BLOCK, [])
def blocked(where): return int(where.partition("SigBlk:")[2].split()[0], 16)
def main(function):
    backend, options = ("trio", {}) if loop == "trio" else ("asyncio", {"use_uvloop": loop == "uvloop"})
    anyio.run(function, backend=backend, backend_options=options)
    print("ok", flush=True)
"""


async def take(receiver: aipc.SignalReceiver) -> aipc.SignalInfo:
    with anyio.fail_after(10):
        return await anext(receiver)


async def expect_none(receiver: aipc.SignalReceiver) -> None:
    with anyio.move_on_after(0.01):
        raise AssertionError(await anext(receiver))
