"""How the command ends: its exit status, and one line for each error.

0 done, 1 failed, 2 a wrong option, argument or URL, 3 there is no such object or nobody listens. Ctrl-C, and output that nobody
reads any more, end it by the signal itself, so that a shell's loop or pipeline ends too (signal(7), SIGINT and SIGPIPE).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import anyio
import typer
import typer.core

from aipc.exceptions import AddressError, AipcError, NobodyListens, ObjectMissing

FAILED, USAGE, MISSING = 1, 2, 3
_UsageError: Any = typer.BadParameter.__base__
"""typer exports no more of it: an error of the command line."""
_ENDS = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Commands(typer.core.TyperGroup):
    """The commands. Called as a program, each ends as this module says."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = "aipc", **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run the command of these arguments, and exit."""
        extra.pop("standalone_mode", None)
        sys.exit(self._status(args, prog_name, extra))

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Inside `main`, which has an ending of its own for these signals."""
        with _as_a_signal():
            try:
                return super().invoke(ctx)
            except BaseExceptionGroup as group:
                raise _first(group) from None
            finally:
                sys.stdout.flush()

    def _status(self, args: Sequence[str] | None, prog_name: str | None, extra: dict[str, Any]) -> int:
        try:
            return int(super().main(args, prog_name, standalone_mode=False, **extra) or 0)
        except typer.Exit as ending:
            return ending.exit_code
        except typer.Abort:
            return said("stopped: nothing was changed", FAILED)
        except _UsageError as error:
            return _usage(error)
        except (AipcError, OSError, TimeoutError, anyio.WouldBlock, *_ENDS) as error:
            return said(text_of(error), status_of(error))


def confirm(question: str) -> None:
    """Ask on a terminal; typer.Abort for no. Without a terminal there is nobody to ask."""
    if sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)


def _first(error: BaseException) -> BaseException:
    """The first error of a group: each command does one thing, and its tasks end together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return USAGE
    path = error.ctx.command_path if error.ctx else "aipc"
    return said(f"{error.format_message().rstrip('.')} ({path} --help)", USAGE)


def said(text: str, status: int) -> int:
    """Print one line for an error, and return the exit status."""
    print(f"aipc: {' '.join(text.split())}", file=sys.stderr)
    return status


def text_of(error: BaseException) -> str:
    """What an error says, or what its kind means if it says nothing."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, AipcError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    if text := str(error.args[-1] if isinstance(error, OSError) and error.args else error):
        return text
    names = {
        anyio.EndOfStream: "the other side has ended",
        TimeoutError: "no answer in time",
        anyio.WouldBlock: "it would wait",
    }
    return next((text for kind, text in names.items() if isinstance(error, kind)), "the other side is gone")


def status_of(error: BaseException) -> int:
    """The exit status for an error."""
    if isinstance(error, AddressError):
        return USAGE
    return MISSING if isinstance(error, (ObjectMissing, NobodyListens)) else FAILED


@contextmanager
def _as_a_signal() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        die_of(signal.SIGINT)
    except BrokenPipeError:
        _discard_output()
        die_of(signal.SIGPIPE)


def _discard_output() -> None:
    """What is still buffered goes nowhere, instead of failing once more at the interpreter's end."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def die_of(signum: int) -> NoReturn:
    """End by a signal, so that the shell sees it."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signum])
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # the signal may be blocked from outside
