"""What travels between a worker and its parent beside the channel: the call, and what became of it. Each by pickle, in a memfd.

A function travels by reference, as its module and name. One of the main script is found by running that script again under the
name `__mp_main__`, as multiprocessing does, so that what stands below `if __name__ == "__main__":` is left out.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from aipc.exceptions import WorkerDied, WorkerFailed

_MAIN = b"_main__"  # and within a worker its name is __mp_main__


class WorkerTask(NamedTuple):
    """What a worker is told at its start. Plain values: the call itself is unpickled when modules can be found."""

    call: bytes
    argv: list[str]
    main: dict[str, str]
    loop: str
    kind: str
    numbered: bool
    channel: int
    report: int
    parent: int


def pack_call(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """The call as bytes. TypeError if it can't travel."""
    if not callable(function):
        raise TypeError(f"spawn({function!r}): needs an async function")
    try:
        call = pickle.dumps((function, args))
    except Exception as error:
        raise TypeError(
            f"spawn({called(function)}): it must be a function at the top of a module, with arguments that pickle takes ({error})"
        ) from error
    if _MAIN in call and not main_script():
        raise TypeError(f"spawn({called(function)}): __main__ is no file, so that a new process can't import it; use a module")
    return call


def main_script() -> dict[str, str]:
    """Where the main script is, as multiprocessing.spawn.prepare wants to know it; empty if it has no file."""
    main = sys.modules["__main__"]
    name: str | None = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return {"init_main_from_name": name}
    path: str | None = getattr(main, "__file__", None)
    return {} if path is None or not os.path.exists(path) else {"init_main_from_path": os.path.abspath(path)}


reading_main = False
"""Whether this is a worker that runs the main script, for what is defined there (multiprocessing calls that spawning)."""


def needs_main(call: bytes) -> bool:
    """Whether something in it is of the main script."""
    return _MAIN in call


def called(function: Any) -> str:
    """A function's name, for people."""
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}.{name}" if name else repr(function)


def memfd(name: str, data: bytes = b"") -> int:
    """A nameless file in memory, which goes with its last descriptor (memfd_create(2))."""
    fd = os.memfd_create(name)
    try:
        write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def rewrite(fd: int, data: bytes) -> None:
    """Put `data` in place of what is in the file."""
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    write(fd, data)


def write(fd: int, data: bytes) -> None:
    """All of it: one system call takes 2 GiB at most."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


BEGUN = b"begun"
"""The report while the function runs. If it stays the last one, the worker has ended by an exit status of its own, or by a signal."""


class RemoteTraceback(Exception):
    """Where in the worker its error came from: the `__cause__` of that error."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Report(NamedTuple):
    """What became of the call, as bytes, and the exit status that goes with it."""

    data: bytes
    status: int


def pack_value(value: Any) -> Report:
    """What the function returned; or that it can't travel."""
    try:
        return Report(pickle.dumps((value, None, "")), 0)
    except Exception as error:  # noqa: BLE001 - whatever pickling it raises
        return pack_error(TypeError(f"the worker's result can't be pickled: {error}"))


def pack_error(error: Exception) -> Report:
    """What the function raised, with its traceback."""
    text = "".join(traceback.format_exception(error))
    try:
        data = pickle.dumps((None, error, text))
        pickle.loads(data)  # noqa: S301 - our own; many an exception can be pickled and not unpickled
    except Exception:  # noqa: BLE001 - whatever pickling it raises
        data = pickle.dumps((None, None, text))
    return Report(data, 1)


def unpack(report: bytes, name: str, outcome: str) -> tuple[Any, Exception | None]:
    """The result, or the error to raise. `outcome` is how the process ended."""
    if report in (b"", BEGUN):
        return None, WorkerDied(f"{name}: ended without a result ({outcome})")
    try:
        value, error, text = pickle.loads(report)  # noqa: S301 - from our own child, which runs our own code
    except Exception as problem:  # noqa: BLE001 - whatever unpickling it raises
        return None, WorkerFailed(f"{name}: what it returned or raised can't be unpickled here: {problem!r}")
    if error is not None:
        error.__cause__ = RemoteTraceback(text)
    elif text:
        error = WorkerFailed(f"{name}: {text}")
    return value, error
