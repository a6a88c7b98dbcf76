"""A shell for the tests' terminal: runs `aipc` in forks of itself, because each interpreter's start would take a third of a second.

As an interactive shell does, it makes each command a process group of its own in the terminal's foreground (credentials(7)), so
that Ctrl-C reaches the command alone, and then prints `$?`.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys

from ..peers import template

PROMPT = "$?="


def main() -> None:
    """Run each line that is typed."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # tcsetpgrp(3) of a process in the background
    template._import_command_line()
    while True:
        subprocess.run(["tmux", "wait-for", "-S", "ready"], check=True)
        line = sys.stdin.readline()
        print("\033[H\033[2J\033[3J", end="", flush=True)  # also what has left the screen
        print(f"{PROMPT}{status_of(shlex.split(line))}", flush=True)


def status_of(arguments: list[str]) -> int:
    """Run the command in the foreground. Its status as shells show it: 128 and the signal's number for one that was killed."""
    pid = os.fork()
    if not pid:
        become(arguments)
    _, status = os.waitpid(pid, 0)
    os.tcsetpgrp(0, os.getpgrp())
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def become(arguments: list[str]) -> None:
    """The command."""
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    sys.argv[:] = arguments
    template.run("from aipc.cli import main; main()")


if __name__ == "__main__":
    main()
