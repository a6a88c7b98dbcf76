"""What a worker and its parent exchange beside the channel: the call, and its result. Each is pickled into a memfd.

A function is pickled by reference, as its module and name. A function of the main script is found by running that script again
under the name `__mp_main__`, as multiprocessing does: the code below `if __name__ == "__main__":` does not run.
"""

from __future__ import annotations

import inspect
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from aipc.exceptions import WorkerDied, WorkerFailed

_MAIN = b"_main__"  # within a worker it is __mp_main__


class WorkerTask(NamedTuple):
    """What a worker gets at its start. Plain values: the call itself is unpickled once modules can be found."""

    call: bytes
    argv: list[str]
    main: dict[str, str]
    loop: str
    kind: str
    numbered: bool
    channel: int
    report: int
    parent: int


def pack_call(function: Callable[..., Any], args: tuple[Any, ...], what: str = "spawn") -> bytes:
    """Return the call as bytes. TypeError if it cannot be pickled; its text begins with `what`."""
    if not callable(function):
        raise TypeError(f"{what}({function!r}): needs a function")
    try:
        call = pickle.dumps((function, args))
    except Exception as error:
        raise TypeError(
            f"{what}({called(function)}): it must be a function at the top of a module, with picklable arguments ({error})"
        ) from error
    if _MAIN in call and not main_script():
        raise TypeError(f"{what}({called(function)}): __main__ is not a file, so a new process cannot import it; use a module")
    return call


def main_script() -> dict[str, str]:
    """The main script's place, in the form of multiprocessing.spawn.prepare; empty if it has no file."""
    main = sys.modules["__main__"]
    name: str | None = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return {"init_main_from_name": name}
    path: str | None = getattr(main, "__file__", None)
    return {} if path is None or not os.path.exists(path) else {"init_main_from_path": os.path.abspath(path)}


reading_main = False
"""Whether this is a worker that runs the main script, for what is defined there (multiprocessing calls that spawning)."""


def needs_main(call: bytes) -> bool:
    """Whether a part of the call belongs to the main script."""
    return _MAIN in call


def pack_request(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """Return a call for a worker that runs already. TypeError if it cannot be pickled."""
    call = pack_call(function, args, "run")
    return pickle.dumps((main_script() if needs_main(call) else {}, call))


async def report_of(request: bytes) -> bytes:
    """Run what `pack_request` packed; return its report. A plain function runs here: the loop stands still meanwhile."""
    try:
        main, call = pickle.loads(request)  # noqa: S301 - from the parent
        if main:
            prepare(main)
        function, args = pickle.loads(call)  # noqa: S301 - likewise
        value = function(*args)
        return pack_value(await value if inspect.isawaitable(value) else value).data
    except Exception as error:  # noqa: BLE001 - reported to the parent
        return pack_error(error).data
    except SystemExit as error:
        return pack_error(WorkerFailed(f"the function called sys.exit({error.code!r})")).data


def prepare(main: dict[str, str]) -> None:
    """Import the main script under the name `__mp_main__`; nothing if that was done before."""
    from multiprocessing.spawn import prepare

    prepare(main)


def called(function: Any) -> str:
    """A function's name, for error texts."""
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}.{name}" if name else repr(function)


def memfd(name: str, data: bytes = b"") -> int:
    """Create a nameless file in memory; it vanishes with its last descriptor (memfd_create(2))."""
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
    """Write all data: one system call writes at most 2 GiB."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


BEGUN = b"begun"
"""The report while the function runs. If it stays the last one, the worker has ended by an exit status of its own, or by a signal."""


class RemoteTraceback(Exception):
    """Where in the worker an error was raised: the `__cause__` of that error."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Report(NamedTuple):
    """The outcome of the call, as bytes, and the exit status that belongs to it."""

    data: bytes
    status: int


def pack_value(value: Any) -> Report:
    """Report what the function returned, or that it cannot be pickled."""
    try:
        return Report(pickle.dumps((value, None, "")), 0)
    except Exception as error:  # noqa: BLE001 - pickling can raise anything
        return pack_error(TypeError(f"the worker's result cannot be pickled: {error}"))


def pack_error(error: Exception) -> Report:
    """Report what the function raised, with its traceback."""
    text = "".join(traceback.format_exception(error))
    try:
        data = pickle.dumps((None, error, text))
        pickle.loads(data)  # noqa: S301 - our own data; some exceptions can be pickled and not unpickled
    except Exception:  # noqa: BLE001 - pickling can raise anything
        data = pickle.dumps((None, None, text))
    return Report(data, 1)


def unpack(report: bytes, name: str, outcome: str) -> tuple[Any, Exception | None]:
    """The result, or the error to raise. `outcome` is how the process ended."""
    if report in (b"", BEGUN):
        return None, WorkerDied(f"{name}: ended without a result ({outcome})")
    try:
        value, error, text = pickle.loads(report)  # noqa: S301 - from our own child, which runs our own code
    except Exception as problem:  # noqa: BLE001 - unpickling can raise anything
        return None, WorkerFailed(f"{name}: what it returned or raised cannot be unpickled here: {problem!r}")
    if error is not None:
        error.__cause__ = RemoteTraceback(text)
    elif text:
        error = WorkerFailed(f"{name}: {text}")
    return value, error
