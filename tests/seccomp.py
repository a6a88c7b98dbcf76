"""System calls that the kernel really refuses, or holds up, in one thread of the tests (seccomp(2), seccomp_unotify(2))."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import struct
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Result = TypeVar("Result")
Decide = Callable[[str, int], int]

_NUMBERS = {
    "x86_64": {"seccomp": 317, "sendto": 44, "sendmsg": 46, "memfd_create": 319, "membarrier": 324, "epoll_ctl": 233},
    "aarch64": {"seccomp": 277, "sendto": 206, "sendmsg": 211, "memfd_create": 279, "membarrier": 283, "epoll_ctl": 21},
}[platform.machine()]
_NO_NEW_PRIVS, _SET_MODE_FILTER, _NEW_LISTENER = 38, 1, 8
_RECEIVE, _ANSWER = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
_CONTINUE = 1
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_CALL = struct.Struct("=QIIiIQ6Q")  # id, thread, flags; number, architecture, place, arguments
_VERDICT = struct.Struct("=QqiI")
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def _listen_for(names: tuple[str, ...], first: int | None = None) -> int:
    """Let this thread's calls of these names, with that first argument, wait for a verdict: where they are announced."""
    steps = [(_LOAD, 0, 0, 0)]
    steps += [(_EQUAL, len(names) - index, 0, _NUMBERS[name]) for index, name in enumerate(names)]
    steps += [(_RETURN, 0, 0, _ALLOW)]
    if first is not None:
        steps += [(_LOAD, 0, 0, 16), (_EQUAL, 1, 0, first), (_RETURN, 0, 0, _ALLOW)]
    steps += [(_RETURN, 0, 0, _NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    for outcome in (
        _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0),
        listener := _libc.syscall(_NUMBERS["seccomp"], _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program)),
    ):
        if outcome < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(listener)


def _judge(listener: int, decide: Decide) -> None:
    """Answer one call, if one is announced within a while."""
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    if not any(events & select.POLLIN for _, events in waiting.poll(10)):
        return
    call = bytearray(_CALL.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, call)
        number, _, _, called, _, _, descriptor, *_ = _CALL.unpack(call)
        code = decide(next(name for name, known in _NUMBERS.items() if known == called), descriptor)
        fcntl.ioctl(listener, _ANSWER, bytearray(_VERDICT.pack(number, 0, -code, 0 if code else _CONTINUE)))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINTR):  # a signal took the thread out of the call
            raise


def judged(names: tuple[str, ...], decide: Decide, scenario: Callable[[], Result]) -> Result:
    """Run `scenario` in a thread of its own. Each of its system calls of these names waits for `decide(name, its first argument)`.

    The verdict is an errno, with which the call fails, or 0: the kernel does it. `decide` runs in this thread, meanwhile.
    """
    with ThreadPoolExecutor(1) as threads:
        listening: Future[int] = Future()

        def run() -> Result:
            try:
                listening.set_result(_listen_for(names))
            except BaseException as error:
                listening.set_exception(error)
                raise
            return scenario()

        running = threads.submit(run)
        listener = listening.result()
        try:
            while not running.done():
                _judge(listener, decide)
        finally:
            os.close(listener)  # from now on such calls fail: ENOSYS
        return running.result()


def judged_from(name: str, decide: Decide, scenario: Callable[[Callable[[int], None]], Result]) -> Result:
    """As `judged`, from when on the scenario says so, by a call with the first argument that such system calls must have."""
    with ThreadPoolExecutor(1) as threads:
        listening: Future[int] = Future()
        running = threads.submit(scenario, lambda first: listening.set_result(_listen_for((name,), first)))
        wait([listening, running], return_when=FIRST_COMPLETED)
        try:
            while not running.done():
                _judge(listening.result(), decide)
        finally:
            if listening.done():
                os.close(listening.result())
        return running.result()
