"""`aipc.popen`: modes, commands, statuses, and what a child inherits."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc.testing.expect import in_child, settle
from tests.peers import process, python, said

pytestmark = pytest.mark.anyio


async def output(child: aipc.ProcessChannel) -> bytes:
    with anyio.fail_after(30):
        return b"".join([chunk async for chunk in child])


async def test_receives_what_a_child_prints() -> None:
    async with aipc.popen(["printf", "one\\ntwo"]) as child:
        assert await output(child) == b"one\ntwo"
        with pytest.raises(aipc.UnsupportedOperation, match="only receives"):
            await child.send(b"wrong way")
        with pytest.raises(aipc.UnsupportedOperation, match="only receives"):
            await child.send_eof()
    assert child.returncode == 0


async def test_sends_what_a_child_reads(place: Path) -> None:
    with (place / "out").open("wb") as file:
        async with aipc.popen("sort", "w", stdout=file) as child:
            await child.send(b"b\n")
            await child.send(b"a\n")
            with pytest.raises(aipc.UnsupportedOperation, match="only sends"):
                await child.receive()
    assert child.returncode == 0
    assert (place / "out").read_bytes() == b"a\nb\n"


async def test_both_ways() -> None:
    async with aipc.popen("sort -u", "r+") as child:
        await child.send(b"b\na\nb\n")
        await child.send_eof()
        assert await output(child) == b"a\nb\n"
        with anyio.fail_after(30):
            assert await child.wait() == 0


async def test_a_chunk_has_no_limit() -> None:
    data = os.urandom(1 << 20) * 20
    async with aipc.popen("cat", "r+") as child, anyio.create_task_group() as tasks:

        async def send() -> None:
            await child.send(data)
            await child.send_eof()

        tasks.start_soon(send)
        assert await output(child) == data


@pytest.mark.parametrize(
    ("framing", "sent"), [("lines", [b"one", b"two"]), ("u32", [b"", b"x" * 100_000]), ("fixed:2", [b"ab", b"cd"])]
)
async def test_framing(framing: str, sent: list[bytes]) -> None:
    async with aipc.popen("cat", "r+", framing=framing, max_message_size=100_000) as child:
        with pytest.raises(ValueError, match="message"):
            await child.send(bytes(100_001))
        with anyio.fail_after(30):
            await child.send_many(sent)
            assert [await child.receive() for _ in sent] == sent


@pytest.mark.parametrize(
    ("command", "returncode"),
    [(["true"], 0), ("sh -c 'exit 3'", 3), (["sh", "-c", "exit 255"], 255), (["sh", "-c", "kill -9 $$"], -9)],
)
async def test_returncode(command: str | list[str], returncode: int) -> None:
    child = await aipc.popen(command)
    with anyio.fail_after(30):
        assert await child.wait() == returncode
        assert await child.wait() == returncode
    assert child.returncode == returncode
    await child.aclose()


async def test_returncode_is_none_while_it_runs() -> None:
    async with aipc.popen("cat", "w", stdout=-3) as child:
        assert child.returncode is None
        assert Path(f"/proc/{child.pid}").exists()
        await child.send_eof()
        with anyio.fail_after(30):
            while child.returncode is None:  # looking is enough: nobody waits
                await anyio.sleep(0.001)
        assert child.returncode == 0
        assert not Path(f"/proc/{child.pid}").exists()


async def test_many_wait_for_one() -> None:
    codes: list[int] = []
    async with aipc.popen("sh -c 'read x; exit 5'", "w") as child, anyio.create_task_group() as tasks:

        async def wait() -> None:
            codes.append(await child.wait())

        for _ in range(5):
            tasks.start_soon(wait)
        with anyio.move_on_after(0.01):
            await child.wait()
            pytest.fail("it can't have ended")
        await settle()
        await child.send_eof()
    assert codes == [5] * 5


async def test_signals() -> None:
    for send, signum in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        async with aipc.popen("cat", "r+") as child:
            getattr(child, send)()
            with anyio.fail_after(30):
                assert await child.wait() == -signum
            child.send_signal(signum)  # nobody's process by now
    async with aipc.popen("cat", "r+") as child:
        with pytest.raises(OSError, match="process") as caught:
            child.send_signal(1_000)
        assert caught.value.errno == errno.EINVAL
        child.send_signal(0)
        assert child.returncode is None


async def test_shell() -> None:
    async with aipc.popen("echo $0; echo two | sed s/o/0/; exit 4", shell=True, env={"PATH": os.environ["PATH"]}) as child:
        assert await output(child) == b"/bin/sh\ntw0\n"
        with anyio.fail_after(30):
            assert await child.wait() == 4


async def test_words() -> None:
    async with aipc.popen("""printf '%s|' "a b" c\\ d '$HOME' '*'""") as child:
        assert await output(child) == b"a b|c d|$HOME|*|"


async def test_directory_and_environment(place: Path) -> None:
    async with aipc.popen(["sh", "-c", "pwd; echo $COLOUR"], cwd=place, env={"COLOUR": "red"}) as child:
        assert await output(child) == f"{place.resolve()}\nred\n".encode()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (["no-such-program-here"], {}, aipc.ObjectMissing, "no directory of PATH"),
        (["/no/such/program"], {}, aipc.ObjectMissing, "/no/such/program: there is no such file"),
        (["true"], {"cwd": "/no/such/place"}, aipc.ObjectMissing, "/no/such/place"),
        (["true"], {"cwd": "/etc/passwd"}, aipc.WrongObject, "/etc/passwd"),
        ([["/etc/passwd"]], {}, aipc.AccessDenied, "executable"),
        (["true", "rw"], {}, aipc.AddressError, "'r'.*'w'.*'r\\+'"),
        ([""], {}, aipc.AddressError, "empty"),
        ([[]], {}, aipc.AddressError, "empty"),
        (["echo 'one"], {}, aipc.AddressError, "quotation"),
        ([["echo", "a\0b"]], {}, aipc.AddressError, "null byte"),
        ([["echo", "one"]], {"shell": True}, aipc.AddressError, "one string"),
        (["true"], {"framing": "u16"}, aipc.AddressError, "u16"),
        (["true", "r"], {"stdout": -3}, aipc.AddressError, "stdout"),
        (["true", "r"], {"stdin": "/etc/passwd"}, aipc.AddressError, "open file"),
        (["true", "r"], {"stdin": -1}, aipc.AddressError, "DEVNULL"),
        (["true", "r"], {"stdin": -2}, aipc.AddressError, "DEVNULL"),
    ],
)
async def test_what_it_refuses(arguments: list[Any], options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await aipc.popen(*arguments, **options)


async def test_neither_program_nor_script(place: Path) -> None:
    path = place / "odd"
    path.write_text("no interpreter named")
    path.chmod(0o700)
    with pytest.raises(OSError, match="neither a program nor a script") as caught:
        await aipc.popen([str(path)])
    assert caught.value.errno == errno.ENOEXEC


async def test_inherits_three_descriptors_and_no_others() -> None:
    receiver, sender = aipc.pipe()
    os.set_inheritable(receiver.extra(aipc.ChannelAttribute.descriptor), True)
    code = (
        "import os; print(sorted(fd for fd in map(int, os.listdir('/proc/self/fd')) if os.path.exists(f'/proc/self/fd/{fd}')))"
    )
    async with receiver, sender, aipc.popen("cat", "r+"), aipc.popen([sys.executable, "-c", code], "r+") as child:
        assert await output(child) == b"[0, 1, 2]\n"


async def test_a_childs_ends_block() -> None:
    code = "import os; print(os.get_blocking(0), os.get_blocking(1))"
    async with aipc.popen([sys.executable, "-c", code], "r+") as child:
        assert await output(child) == b"True True\n"


async def test_other_streams_are_this_processs_own() -> None:
    for mode, number in (("r", 0), ("r", 2), ("w", 1), ("r+", 2)):
        ours = os.readlink(f"/proc/self/fd/{number}")
        async with aipc.popen("sleep 60", mode) as child:
            assert os.readlink(f"/proc/{child.pid}/fd/{number}") == ours
            child.kill()


async def test_a_dead_child_is_a_broken_channel() -> None:
    async with aipc.popen("true", "w") as child:
        with anyio.fail_after(30):
            await child.wait()
            with pytest.raises(anyio.BrokenResourceError):
                await child.send(b"to nobody")


async def test_hermit_lives_on_without_its_streams(misbehaving: str) -> None:
    async with aipc.popen([misbehaving, "hermit"], "r+", stderr=-3, grace=0.05) as child:
        assert await output(child) == b"ready\n"
        assert child.returncode is None
        with pytest.raises(anyio.BrokenResourceError):
            await child.send(b"to nobody")
    assert child.returncode == -signal.SIGTERM


async def test_grandchild_holds_the_pipe(misbehaving: str) -> None:
    async with aipc.popen([misbehaving, "holder"], "r+", framing="lines") as child:
        with anyio.fail_after(30):
            grandchild = int(await child.receive())
            assert await child.wait() == 7
            await child.send(b"still there?")
            assert await child.receive() == b"still there?"
        pidfd = os.pidfd_open(grandchild)
    with anyio.fail_after(30):
        await anyio.wait_readable(pidfd)  # it saw the end of its input
    os.close(pidfd)
    assert child.returncode == 7


async def test_refuses_in_a_forked_child() -> None:
    async with aipc.popen("cat", "r+") as child:

        def use() -> None:
            for ask in (lambda: child.returncode, child.kill, lambda: child.send_nowait(b"")):
                with pytest.raises(aipc.ForkedError):
                    ask()

        in_child(use)
        assert child.returncode is None
        with anyio.fail_after(30):
            await child.send(b"unharmed")
            assert await child.receive() == b"unharmed"


async def test_attributes() -> None:
    async with aipc.popen("cat", "r+", framing="u32") as child:
        assert child.extra(aipc.ChannelAttribute.max_message_size) == 16 * 1024 * 1024
        assert os.readlink(f"/proc/self/fd/{child.extra(aipc.ChannelAttribute.descriptor)}").startswith("pipe:")
        assert repr(child) == f"<ProcessChannel popen (cat) (stdout): open, pid {child.pid} running>"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_never_closed() -> None:
    children = [await aipc.popen("true")]
    with anyio.fail_after(30):
        await children[0].wait()
    with pytest.warns(ResourceWarning, match=r"popen \(true\) \(stdout\): never closed"):
        forget(children)


def forget(children: list[aipc.ProcessChannel]) -> None:
    """Leave the last one to the garbage collector."""
    children.pop()
    gc.collect()


def test_a_vain_start_leaves_nothing() -> None:
    """With too few descriptors, wherever that shows: the error says so, and no child and no descriptor is left."""
    code = """
import anyio, os, resource, aipc
async def main():
    await anyio.lowlevel.checkpoint()
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    errors = set()
    os.close(taken.pop())
    before = len(os.listdir("/proc/self/fd"))
    for free in range(12):
        try:
            child = await aipc.popen("cat", "r+")
        except OSError as error:
            errors.add(error.errno)
        else:
            await child.aclose()
            break
        os.close(taken.pop())
    left = len(os.listdir("/proc/self/fd")) - (before - free)
    print(errors, free > 4, left, open(f"/proc/self/task/{os.getpid()}/children").read().split())
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import anyio.lowlevel, aipc._child.process, aipc.transports.process, aipc.processes.children
anyio.run(main)
"""
    with process(sys.executable, "-c", code) as running:
        assert running.stdout is not None
        assert running.stdout.read() == f"{{{errno.EMFILE}}} True 0 []\n"


RECEIVER = """
import asyncio, signal, sys, aipc
show = [sys.executable, "-c", "import signal; print(signal.SIGUSR1 in signal.pthread_sigmask(0, []))"]
async def main():
    async with aipc.open_signal_receiver(signal.SIGUSR1, details=True):
        print(signal.SIGUSR1 in signal.pthread_sigmask(0, []))
        async with aipc.popen(show, "r") as child:
            print(b"".join([chunk async for chunk in child]))
        async with aipc.pipeline(show) as line:
            print(await line.communicate(), flush=True)
asyncio.run(main())
"""


def test_children_of_a_signal_receiver_start_with_a_clean_mask() -> None:
    """What a process blocks to read it from a signalfd, its children do not."""
    with python(RECEIVER) as running:
        assert [said(running) for _ in range(3)] == ["True", r"b'False\n'", r"b'False\n'"]
