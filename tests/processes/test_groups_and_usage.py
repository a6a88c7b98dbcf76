"""What a child took and how it ended; process groups and sessions, which end as a whole; children that die with their parent."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing.expect import until
from tests.peers import python, said
from tests.subjects import times

from .conftest import children

pytestmark = pytest.mark.anyio

_BURN = "x = 0\nwhile __import__('time').process_time() < 0.1: x += 1"
DEADLY = "import os, signal; os.kill(os.getpid(), signal.SIG{})"


class Left(Exception):
    """The block is left by an error."""


def lives(pid: int) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_usage() -> None:
    async with aipc.popen([sys.executable, "-I", "-S", "-c", _BURN]) as child:
        assert child.usage is None
        assert child.outcome == "running"
        await child.wait()
    usage = child.usage
    assert isinstance(usage, resource.struct_rusage)
    assert usage.ru_utime + usage.ru_stime >= 0.1
    assert usage.ru_maxrss > 0


async def test_usage_is_each_childs_own() -> None:
    async with aipc.pipeline("true", [sys.executable, "-I", "-S", "-c", _BURN]) as pipeline:
        assert pipeline.usages == [None, None] or pipeline.usages[0] is not None
        await pipeline.wait()
    first, second = (usage.ru_utime + usage.ru_stime for usage in pipeline.usages if usage)
    assert first < 0.1 <= second
    assert pipeline.outcomes == ["exit status 0", "exit status 0"]


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("true", "exit status 0"),
        ("sh -c 'exit 3'", "exit status 3"),
        ("sh -c 'kill -TERM $$'", "killed by SIGTERM"),
        (f"sh -c 'kill -{signal.SIGRTMIN + 1} $$'", "killed by SIGRTMIN+1"),
    ],
)
async def test_outcome(command: str, outcome: str) -> None:
    async with aipc.popen(command) as child:
        await child.wait()
    assert child.outcome == outcome
    assert aipc.describe_exit(child.returncode) == outcome


async def test_a_core_dump_is_told(misbehaving: str, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    for allowed in (0, limits[1]):
        resource.setrlimit(resource.RLIMIT_CORE, (allowed, limits[1]))
        try:
            async with aipc.popen([misbehaving, "crash"], cwd=tmp_path) as child:
                await child.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, limits)
        dumped = bool(list(tmp_path.iterdir()))
        assert child.outcome in ("killed by SIGSEGV", "killed by SIGSEGV (core dumped)")
        assert not dumped or child.outcome.endswith("(core dumped)")
    assert aipc.describe_exit(-signal.SIGSEGV, core_dumped=True) == "killed by SIGSEGV (core dumped)"
    assert aipc.describe_exit(None) == "running"


async def test_group_and_session() -> None:
    code = "import os; print(os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid())"
    for options, expected in (
        ({}, b"False False"),
        ({"process_group": 0}, b"True False"),
        ({"new_session": True}, b"True True"),
    ):
        async with aipc.popen([sys.executable, "-I", "-S", "-c", code], **options) as child:
            assert await child.receive() == expected + b"\n"
        async with aipc.pipeline([sys.executable, "-I", "-S", "-c", code], **options) as children:
            assert await children.communicate() == expected + b"\n"
    async with aipc.popen("cat", "w", process_group=0) as leader, aipc.popen("cat", "w", process_group=leader.pid) as member:
        assert os.getpgid(member.pid) == leader.pid


@pytest.mark.parametrize("options", [{"process_group": 0}, {"new_session": True}])
@pytest.mark.parametrize("how", ["cancelled", "error", "end"])
async def test_the_whole_tree_ends(misbehaving: str, options: dict[str, object], how: str) -> None:
    """The child, the grandchild that heeds SIGTERM, and the one that does not."""
    others: list[int] = []
    with anyio.CancelScope() as scope, suppress(Left):
        async with aipc.popen([misbehaving, "family"], "r+", grace=0.1, **options) as child:
            others = list(map(int, (await child.receive()).split()))
            assert all(map(lives, others))
            if how == "error":
                raise Left
            if how == "cancelled":
                scope.cancel()
                await anyio.sleep_forever()
    assert child.returncode == -signal.SIGTERM
    assert child.forced
    await until(lambda: not any(map(lives, others)))


async def test_without_a_group_only_the_child_ends(misbehaving: str) -> None:
    async with aipc.popen([misbehaving, "family"], "r+", grace=0.1) as child:
        others = list(map(int, (await child.receive()).split()))
    assert child.returncode == -signal.SIGTERM
    assert not child.forced
    assert all(map(lives, others))
    for pid in others:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("looked", [False, True])
async def test_grandchildren_end_when_the_child_has(looked: bool) -> None:
    """Also if its status was taken long before, so that its number is nobody's but the group's."""
    async with aipc.popen("sh -c 'sleep 60 & echo $!; exit 7'", grace=0.1, process_group=0) as child:
        grandchild = int(await child.receive())
        if looked:
            assert await child.wait() == 7
            assert child.returncode == 7
        child.send_signal(0)
        assert lives(grandchild)
    assert child.returncode == 7
    await until(lambda: not lives(grandchild))


async def test_signals_go_to_the_group(misbehaving: str) -> None:
    async with aipc.popen([misbehaving, "family"], "r+", grace=60, process_group=0) as child:
        others = list(map(int, (await child.receive()).split()))
        child.kill()
        await child.wait()
        await until(lambda: not any(map(lives, others)))
    assert child.returncode == -signal.SIGKILL


async def test_grandchildren_that_hold_the_pipes_hold_up_nobody(misbehaving: str) -> None:
    with anyio.fail_after(30):
        async with aipc.popen([misbehaving, "holder"], "r+", grace=60) as child:
            grandchild = int(await child.receive())
        assert child.returncode == 7
    await until(lambda: not lives(grandchild))  # its input has ended


async def test_pipelines_have_groups_too(misbehaving: str) -> None:
    async with aipc.pipeline("cat", [misbehaving, "family"], grace=0.1, process_group=0) as pipeline:
        assert [os.getpgid(pid) for pid in pipeline.pids] == pipeline.pids
        assert pipeline.stdout is not None
        others = list(map(int, (await pipeline.stdout.receive()).split()))
    await until(lambda: not any(map(lives, others)))
    assert pipeline.outcomes == ["exit status 0", "killed by SIGTERM"]


_PARENT = """
import sys, time, anyio, aipc
async def main():
    async with aipc.popen("sleep 60", dies_with_parent={}) as child:
        print(child.pid, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


async def test_dies_with_its_parent() -> None:
    for dies in (True, False):
        with python(_PARENT.format(dies)) as parent:
            pid = int(said(parent))
            parent.kill()
            parent.wait()
        if dies:
            await until(lambda: not lives(pid))
        else:
            assert lives(pid)
            os.kill(pid, signal.SIGKILL)


async def test_dies_with_a_parent_that_is_dead_already() -> None:
    code = "from aipc._sys.processes import die_with\ndie_with(1 << 22)\nprint('alive')"
    async with aipc.popen([sys.executable, "-c", code]) as child:
        with pytest.raises(anyio.EndOfStream):
            await child.receive()
        await child.wait()
    assert child.returncode == -signal.SIGKILL


async def test_dies_with_the_thread_that_started_it() -> None:
    """As prctl(2) warns: it is the thread's end that counts."""
    ended: list[aipc.ProcessChannel] = []

    async def start() -> None:
        ended.append(await aipc.popen("sleep 60", dies_with_parent=True))

    thread = threading.Thread(target=anyio.run, args=(start,))
    thread.start()
    thread.join()
    await until(lambda: not lives(ended[0].pid))
    await ended[0].aclose()
    assert ended[0].returncode == -signal.SIGKILL


@pytest.mark.costly
async def test_many_starts_and_cancels() -> None:
    """0 zombies, and 0 descriptors (the fixtures look)."""
    for number in range(times(400, 10_000)):
        with anyio.CancelScope() as scope:
            async with aipc.popen("/bin/true" if number % 2 else "/bin/cat", "r" if number % 2 else "r+"):
                scope.cancel()
                await anyio.sleep(0)
    assert children() == []
