"""The commands' names. Each command's options and work are in the file of its subject."""

from __future__ import annotations

from typing import Annotated

import typer

import aipc

from . import benchmark, calling, jobs, joining, locking, messages, topics, touring
from .ending import Commands
from .machine import doctor, inspecting, objects, top

_STATUS = """Exit status: 0 done, 1 failed, 2 wrong option, argument or URL, 3 no such object, or nobody listens."""
app: typer.Typer = typer.Typer(
    cls=Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, epilog=_STATUS
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"aipc {aipc.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Interprocess communication from the shell: messages, locks, services, and the objects behind them."""


for _name, _command, _example in (
    ("list", objects.list_, "aipc list /tmp"),
    ("remove", objects.remove, "aipc remove --yes fifo:/tmp/aipc.fifo"),
    ("send", messages.send, "aipc send unix:/tmp/aipc.sock hello"),
    ("receive", messages.receive, "aipc receive -n 1 'posix-mq:/aipc-example?create=1'"),
    ("cat", joining.cat, "aipc cat unix:/tmp/aipc.sock"),
    ("listen", joining.listen, "aipc listen unix:/tmp/aipc.sock -- tr a-z A-Z"),
    ("lock", locking.lock, "aipc lock flock:/tmp/aipc.lock -- echo alone"),
    ("publish", topics.publish, "aipc publish --subscribers 0 unix:/tmp/aipc.topics eur.usd 1.08"),
    ("subscribe", topics.subscribe, "aipc subscribe unix:/tmp/aipc.topics 'eur.*'"),
    ("call", calling.call, "aipc call unix:/tmp/aipc.sock add 1 2"),
    ("inspect", inspecting.inspect, "aipc inspect flock:/tmp/aipc.lock"),
    ("top", top.top, "aipc top --count 1"),
    ("bench", benchmark.bench, "aipc bench --only shm --count 500"),
    ("doctor", doctor.doctor, "aipc doctor --json"),
    ("tour", touring.tour, "aipc tour --only unix"),
):
    app.command(_name, epilog=f"Example: {_example}")(_command)
app.add_typer(jobs.jobs, name="jobs")
