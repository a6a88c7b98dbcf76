"""`aipc.run`: a command from its start to its end."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from aipc._child.process import Command, PathName
from aipc._child.termination import GRACE
from aipc.abc import Buffer
from aipc.exceptions import CommandFailed

from .children import popen
from .exchange import exchange
from .redirect import Redirection


async def run(
    command: Command,
    input: Buffer = b"",
    *,
    check: bool = True,
    shell: bool = False,
    stdout: Redirection = subprocess.PIPE,
    stderr: Redirection = subprocess.PIPE,
    cwd: PathName | None = None,
    env: Mapping[str, str] | None = None,
    grace: float = GRACE,
    process_group: int | None = None,
    new_session: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command and return what it printed, like subprocess.run: `done = await aipc.run(["sort"], input=data)`.

    The result has `returncode`, `stdout` and `stderr`, which are None where they were redirected. All output is held in memory.

    Args:
        command: As for `popen`.
        input: The command's whole input. It sees the end of its input after this, also if it is empty.
        check: Whether an exit status that is not 0, or a signal, raises CommandFailed.
        shell: As for `popen`.
        stdout: subprocess.PIPE to return the output. Otherwise where it goes, as for `popen`; None: this process's own.
        stderr: Likewise; subprocess.STDOUT: with the output.
        cwd: As for `popen`.
        env: As for `popen`.
        process_group: As for `popen`.
        new_session: As for `popen`.
        grace: Seconds that the command has to end after SIGTERM, if this is cancelled.

    CommandFailed is also a subprocess.CalledProcessError. Other errors as for `popen`. A command that stops reading early is no error.
    Cancelled: the command has ended and was reaped; its output is lost.
    """
    captured = stdout == subprocess.PIPE
    async with popen(
        command,
        "r+" if captured else "w",
        shell=shell,
        stdout=None if captured else stdout,
        stderr=stderr,
        cwd=cwd,
        env=env,
        grace=grace,
        process_group=process_group,
        new_session=new_session,
    ) as child:
        printed, complained = await exchange(child, input, child if captured else None, child.stderr)
        await child.wait()
    code = child.returncode or 0
    if check and code:
        raise CommandFailed(code, command, printed, complained, child.outcome)
    return subprocess.CompletedProcess(command, code, printed, complained)
