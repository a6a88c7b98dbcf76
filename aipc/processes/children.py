"""`aipc.popen` and `aipc.pipeline`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

from aipc._child.pipes import ChildPipes
from aipc._child.process import Command, PathName, called
from aipc._child.termination import GRACE
from aipc._opening.openers import Opening
from aipc.transports.pipes.pipe import PipeChannel
from aipc.transports.process import ProcessChannel, framing_of, launch
from aipc.wire.framing import Framing

from .pipeline import Pipeline, start_pipeline
from .redirect import Passed, Redirection, passed, redirected


def popen(
    command: Command,
    mode: Literal["r", "w", "r+"] = "r",
    *,
    shell: bool = False,
    framing: str = "none",
    max_message_size: int | None = None,
    stdin: Redirection = None,
    stdout: Redirection = None,
    stderr: Redirection = None,
    pass_fds: Iterable[Passed] = (),
    cwd: PathName | None = None,
    env: Mapping[str, str] | None = None,
    grace: float = GRACE,
    process_group: int | None = None,
    new_session: bool = False,
    dies_with_parent: bool = False,
) -> Opening[ProcessChannel]:
    """Start a child and return it as a channel (popen(3)): `async with aipc.popen(["sort", "-u"], "r+") as child`, or await it.

    Args:
        command: A list of words, or a string that is split as a shell would split it.
        shell: Whether a shell runs the command, which is then one string.
        mode: The streams that become pipes: "r" the child's output, "w" its input, "r+" both.
        framing: How messages are marked in the byte stream; by default chunks as they come.
        max_message_size: The limit of a framed message in bytes: 16 MiB by default. Raw chunks have no limit.
        stdin: Where the child's input comes from, if `mode` makes it no pipe: a file, a descriptor, subprocess.DEVNULL or a
            channel with a descriptor. By default this process's own input.
        stdout: Where its output goes, likewise.
        stderr: Where its errors go, likewise, or subprocess.STDOUT; subprocess.PIPE: to be received, from `child.stderr`.
        pass_fds: Descriptors, files and channels that the child inherits, as blocking ones, under the numbers that they have
            here. A channel's number is `extra(ChannelAttribute.descriptor)`.
        cwd: The child's working directory; by default this process's.
        env: The child's environment; by default this process's.
        process_group: 0 puts the child into a process group of its own (setpgid(2)), another number into that group.
        new_session: Start the child in a session, and so a group, of its own (setsid(2)).
        dies_with_parent: Send the child SIGKILL when the thread or process that started it ends (PR_SET_PDEATHSIG, prctl(2)).
        grace: Seconds that the child has to end by itself, and again after SIGTERM.

    Leaving the block closes the pipes, waits `grace` seconds, sends SIGTERM, waits `grace` seconds more, and sends SIGKILL. If an
    exception or a cancellation leaves the block, it begins with SIGTERM. The child is always reaped. If the child leads a process
    group, the signals go to the whole group.

    ObjectMissing: there is no such program or `cwd`. AccessDenied: the program may not be run. AddressError: an unknown mode, or
    an empty command. Cancelled: nothing was started, because nothing is awaited.
    """
    options: dict[str, Any] = {
        "shell": shell,
        "cwd": cwd,
        "env": env,
        "process_group": process_group,
        "new_session": new_session,
        "dies_with_parent": dies_with_parent,
    }

    name = f"popen ({called(command)})"

    async def start() -> ProcessChannel:
        chosen = framing_of(framing, max_message_size)
        with ChildPipes(name) as pipes:
            streams = {what: redirected(pipes, what, to) for what, to in (("stdin", stdin), ("stdout", stdout))}
            streams["stderr"], errors = _errors(pipes, stderr, chosen)
            inherited = passed(pipes, pass_fds)
            return launch(pipes, command, mode, name, chosen, grace, errors=errors, pass_fds=inherited, **options, **streams)

    return Opening(start, name)


def _errors(pipes: ChildPipes, to: Redirection, framing: Framing) -> tuple[int | None, PipeChannel | None]:
    """The child's stderr, and the channel that receives it, if it is to be one."""
    if to != subprocess.PIPE:
        return redirected(pipes, "stderr", to), None
    theirs, ours = pipes.from_child("stderr")
    return theirs, PipeChannel(ours, framing, sends=False)


def pipeline(
    *commands: Command,
    shell: bool = False,
    framing: str = "none",
    max_message_size: int | None = None,
    stdin: Redirection = subprocess.PIPE,
    stdout: Redirection = subprocess.PIPE,
    stderr: Redirection = None,
    cwd: PathName | None = None,
    env: Mapping[str, str] | None = None,
    grace: float = GRACE,
    process_group: int | None = None,
    new_session: bool = False,
    dies_with_parent: bool = False,
    pipefail: bool = False,
) -> Opening[Pipeline]:
    """Start children connected as by `|`: `async with aipc.pipeline(["sort"], ["uniq", "-c"]) as pipeline`, or await it.

    `stdin` and `stdout` are channels of the result (subprocess.PIPE), or go elsewhere, as for `popen`. The options after them
    apply to every child: `process_group=0` gives each child its own group. With `pipefail` the result's `returncode` is the last
    one that is not 0. Leaving the block ends and reaps all children as `popen` does.

    Errors as for `popen`; the text names the stage. The children of earlier stages are ended and reaped before the error is raised.
    Cancelled: nothing was started.
    """
    options: dict[str, Any] = {
        "shell": shell,
        "cwd": cwd,
        "env": env,
        "process_group": process_group,
        "new_session": new_session,
        "dies_with_parent": dies_with_parent,
    }
    return Opening(
        partial(
            start_pipeline,
            commands,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            framing=framing,
            max_message_size=max_message_size,
            grace=grace,
            pipefail=pipefail,
            **options,
        ),
        f"pipeline ({' | '.join(map(called, commands))})",
    )
