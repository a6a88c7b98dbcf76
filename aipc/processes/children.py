"""`aipc.popen` and `aipc.pipeline`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

from aipc._child.pipes import ChildPipes
from aipc._child.process import Command, PathName, called
from aipc._child.termination import GRACE
from aipc._open import Opening
from aipc.transports.process import ProcessChannel, framing_of, launch

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
    """A child as a channel (popen(3)): `async with aipc.popen(["sort", "-u"], "r+") as child`, or await it.

    `mode` says what is a pipe: "r" the child's output, "w" its input, "r+" both. The other streams are this process's, or what
    `stdin`, `stdout`, `stderr` say: a file, a descriptor, subprocess.DEVNULL, a channel with a descriptor; stderr also
    subprocess.STDOUT. `pass_fds` are descriptors, files and channels that the child inherits under the numbers that they have here,
    blocking ones; a channel's number is `extra(ChannelAttribute.descriptor)`. `max_message_size` is 16 MiB where there is a framing, and raw chunks have no limit.

    Leaving the block closes the pipes, gives the child `grace` seconds to end, then sends SIGTERM, and after `grace` seconds more
    SIGKILL; left by an exception or a cancellation, it begins with SIGTERM. The child is reaped in any case. With a process group
    of its own (`process_group=0`, setpgid(2), or `new_session`, setsid(2)) all this holds for every process of that group.
    `dies_with_parent`: the child gets SIGKILL when the thread that started it ends, or the process (PR_SET_PDEATHSIG, prctl(2)).

    ObjectMissing, AccessDenied: there is no such program or `cwd`, or it may not be run. AddressError: another mode, an empty
    command. Cancelled: not started, as nothing is awaited.
    """
    options: dict[str, Any] = {
        "shell": shell,
        "cwd": cwd,
        "env": env,
        "process_group": process_group,
        "new_session": new_session,
        "dies_with_parent": dies_with_parent,
    }

    async def start() -> ProcessChannel:
        name = f"popen ({called(command)})"
        chosen = framing_of(framing, max_message_size)
        with ChildPipes(name) as pipes:
            streams = {
                what: redirected(pipes, what, to) for what, to in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr))
            }
            inherited = passed(pipes, pass_fds)
            return launch(pipes, command, mode, name, chosen, grace, pass_fds=inherited, **options, **streams)

    return Opening(start)


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
    """Children in a row, as by `|`: `async with aipc.pipeline(["sort"], ["uniq", "-c"]) as pipeline`, or await it.

    `stdin` and `stdout` are channels of the result (subprocess.PIPE), or go elsewhere as for `popen`; the options after them
    are for all children: `process_group=0` gives each a group of its own. With `pipefail` the result's `returncode` is the last
    one that is not 0. Leaving the block ends and reaps all children as `popen` does.

    Errors as for `popen`; the text says which stage. Those before it are ended and reaped first. Cancelled: nothing was started.
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
        )
    )
