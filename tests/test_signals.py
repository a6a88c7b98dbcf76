"""Signals received and sent, with a C program at the other end where that matters."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.testing import CANCELLED, Moment, inject
from aipc.testing.expect import in_child, raises, settle

from .peers import compile_peer, process, python, run, said, tell
from .subjects import BLOCKED_SIGNALS, drop_signals, queued_signals

pytestmark = pytest.mark.anyio

ONE, OTHER, FLAG = signal.SIGRTMIN + 4, signal.SIGRTMIN + 5, signal.SIGUSR2
ME = os.getpid()
detailed = partial(aipc.open_signal_receiver, details=True)


@pytest.fixture(autouse=True)
def _all_as_before() -> Iterator[None]:
    """Masks, and handlers of Python and of C, are as they were. (33 is the C library's own, from its first thread on.)"""

    def state() -> list[object]:
        lines = re.findall("^Sig[^Q].*", Path("/proc/self/status").read_text(), re.MULTILINE)
        lines = [(line[:6], int(line.split()[1], 16) & ~(1 << 32)) for line in lines]
        return [lines, [signal.getsignal(signum) for signum in sorted(signal.valid_signals())]]

    before = state()
    yield
    drop_signals()
    assert state() == before


@pytest.fixture(scope="module")
def c_peer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(compile_peer("signals", tmp_path_factory))


@pytest.fixture
def caught() -> Iterator[list[int]]:
    """What an ordinary handler of SIGUSR1 and SIGUSR2 saw."""
    seen: list[int] = []
    before = {signum: signal.signal(signum, lambda number, _: seen.append(number)) for signum in (signal.SIGUSR1, FLAG)}
    yield seen
    for signum, handler in before.items():
        signal.signal(signum, handler)


async def take(receiver: aipc.SignalReceiver) -> aipc.SignalInfo:
    with anyio.fail_after(10):
        return await anext(receiver)


async def expect_none(receiver: aipc.SignalReceiver) -> None:
    with anyio.move_on_after(0.01):
        raise AssertionError(await anext(receiver))


# Receiving through the loop


async def test_number_only() -> None:
    async with aipc.open_signal_receiver(signal.SIGUSR1, signal.SIGHUP) as received:
        aipc.send_signal(ME, signal.SIGHUP)
        assert await take(received) == (signal.SIGHUP, None, None, None)
        aipc.send_signal(ME, signal.SIGUSR1, value=5)
        assert await take(received) == aipc.SignalInfo(signal.SIGUSR1)


async def test_wakes_a_task_that_waits() -> None:
    async with aipc.open_signal_receiver(signal.SIGUSR1) as received, anyio.create_task_group() as tasks:
        tasks.start_soon(take, received)
        await settle()
        aipc.send_signal(ME, signal.SIGUSR1)


async def test_from_another_process() -> None:
    async with aipc.open_signal_receiver(signal.SIGUSR1) as received:
        run("sh", "-c", f"kill -USR1 {ME}")
        assert (await take(received)).signum == signal.SIGUSR1


@pytest.mark.parametrize("signum", [signal.SIGUSR1, ONE])
async def test_standard_signals_coalesce(signum: int, caught: list[int]) -> None:
    """At least one since the last time: whatever the loop's own handling makes of several."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, [signum])
    try:
        async with aipc.open_signal_receiver(signum) as received:
            for _ in range(5):
                aipc.send_signal(ME, signum)
            await settle()
            assert (await take(received)).signum == signum
            await expect_none(received)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def test_earlier_handler_comes_back(caught: list[int]) -> None:
    async with aipc.open_signal_receiver(signal.SIGUSR1) as received:
        aipc.send_signal(ME, signal.SIGUSR1)
        await take(received)
        assert caught == []
    aipc.send_signal(ME, signal.SIGUSR1)
    assert caught == [signal.SIGUSR1]


async def test_handler_in_c_comes_back() -> None:
    """faulthandler's, of which Python's table of handlers knows nothing."""
    code = (
        "import faulthandler, os, signal, sys, anyio, aipc\n"
        "async def main():\n"
        "    async with aipc.open_signal_receiver(signal.SIGUSR1) as received:\n"
        "        os.kill(os.getpid(), signal.SIGUSR1)\n"
        "        await anext(received)\n"
        "faulthandler.register(signal.SIGUSR1, sys.stdout, all_threads=False)\n"
        "anyio.run(main)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    with python(code) as child:
        assert "most recent call first" in said(child)


async def test_handler_of_the_loop_comes_back(anyio_backend_name: str) -> None:
    """`loop.add_signal_handler`: it is called meanwhile, too."""
    if anyio_backend_name == "trio":
        return
    loop, seen = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "loop")
    try:
        async with aipc.open_signal_receiver(signal.SIGUSR1) as received, aipc.open_signal_receiver(signal.SIGUSR1):
            aipc.send_signal(ME, signal.SIGUSR1)
            await take(received)
        await settle()
        seen.clear()
        aipc.send_signal(ME, signal.SIGUSR1)
        await settle()
        assert seen == ["loop"]
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def test_interrupt_key() -> None:
    """SIGINT is the loops' own business, and is again afterwards."""
    before = signal.getsignal(signal.SIGINT)
    async with aipc.open_signal_receiver(signal.SIGINT) as received:
        aipc.send_signal(ME, signal.SIGINT)
        assert (await take(received)).signum == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) == before


async def test_child_ended(anyio_backend: object, anyio_backend_name: str) -> None:
    """SIGCHLD is refused by uvloop; `details`, which the error recommends, takes it on each loop (tests below)."""
    if anyio_backend == ("asyncio", {"use_uvloop": True}):
        with pytest.raises(aipc.UnsupportedOperation, match=r"409.*details=True"):
            async with aipc.open_signal_receiver(signal.SIGHUP, signal.SIGCHLD):
                pass
        return
    async with aipc.open_signal_receiver(signal.SIGCHLD) as received:
        child = subprocess.Popen(["true"])
        assert (await take(received)).signum == signal.SIGCHLD
        assert child.wait() == 0


# What both ways promise


@pytest.mark.parametrize("details", [False, True])
async def test_each_receiver_gets_it(details: bool, caught: list[int]) -> None:
    """Nested and concurrent ones; one that leaves unhooks no other, whoever came first."""
    signum, other = (FLAG, OTHER) if details else (signal.SIGUSR1, signal.SIGHUP)
    opened = partial(aipc.open_signal_receiver, details=details)
    async with opened(signum) as first, opened(signum, other) as second:
        async with opened(signum) as third:
            aipc.send_signal(ME, signum)
            assert {(await take(each)).signum for each in (third, first, second)} == {signum}
            await first.aclose()
            aipc.send_signal(ME, signum)
            assert {(await take(each)).signum for each in (second, third)} == {signum}
        aipc.send_signal(ME, other)
        assert (await take(second)).signum == other
        aipc.send_signal(ME, signum)
        assert (await take(second)).signum == signum
        await expect_none(second)
    assert caught == []


@pytest.mark.parametrize("details", [False, True])
async def test_receivers_that_wait_all_get_it(details: bool) -> None:
    signum = FLAG if details else signal.SIGUSR1
    opened = partial(aipc.open_signal_receiver, details=details)
    async with opened(signum) as first, opened(signum) as second, anyio.create_task_group() as tasks:
        tasks.start_soon(take, first)
        tasks.start_soon(take, second)
        await settle()
        aipc.send_signal(ME, signum)


async def test_receiver_that_waits_gets_what_another_took() -> None:
    """No event of the descriptor tells it: the signal is gone before the loop looks."""
    async with detailed(ONE) as quick, detailed(ONE) as waiting, anyio.create_task_group() as tasks:
        tasks.start_soon(take, waiting)
        await settle()
        aipc.send_signal(ME, ONE, 1)
        await take(quick)


@pytest.mark.parametrize("details", [False, True])
async def test_each_signal_goes_to_one_task(details: bool) -> None:
    signum = FLAG if details else signal.SIGUSR1
    got: list[aipc.SignalInfo] = []

    async def receive() -> None:
        got.append(await take(received))

    async with aipc.open_signal_receiver(signum, details=details) as received, anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        tasks.start_soon(receive)
        for expected in (1, 2):
            await settle()
            aipc.send_signal(ME, signum)
            with anyio.fail_after(10):
                while len(got) < expected:
                    await settle()
            assert len(got) == expected


@pytest.mark.parametrize("details", [False, True])
async def test_closing(details: bool) -> None:
    """Once, also when cancelled; who waits, and who comes later, learns of it; a receiver beside it goes on."""
    signum = FLAG if details else signal.SIGUSR1

    async def expect_closed() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await take(received)

    opened = partial(aipc.open_signal_receiver, details=details)
    async with opened(signum) as other, opened(signum) as received:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(expect_closed)
            tasks.start_soon(expect_closed)
            await settle()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await received.aclose()
        await received.aclose()
        await expect_closed()
        aipc.send_signal(ME, signum)
        assert (await take(other)).signum == signum
    with pytest.raises(anyio.ClosedResourceError):
        await take(other)


@pytest.mark.parametrize("details", [False, True])
async def test_refuses_after_fork(details: bool) -> None:
    signum = FLAG if details else signal.SIGUSR1
    async with aipc.open_signal_receiver(signum, details=details) as received:

        def use() -> None:
            with raises(aipc.ForkedError):
                received.__anext__().send(None)
            with suppress(StopIteration):
                received.aclose().send(None)

        in_child(use)
        aipc.send_signal(ME, signum)
        assert (await take(received)).signum == signum


@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize(
    ("signals", "error"),
    [
        ((), ValueError),
        ((0,), ValueError),
        ((-1,), ValueError),
        ((32,), ValueError),
        ((65,), ValueError),
        (("SIGHUP",), TypeError),
        ((signal.SIGKILL,), aipc.UnsupportedOperation),
        ((signal.SIGUSR1, signal.SIGSTOP), aipc.UnsupportedOperation),
    ],
)
async def test_what_cannot_be_received(signals: tuple[int, ...], error: type[Exception], details: bool) -> None:
    with pytest.raises(error):
        async with aipc.open_signal_receiver(*signals, details=details):
            pass


@pytest.mark.parametrize("details", [False, True])
async def test_wrong_thread(details: bool) -> None:
    """The main thread's signals: with `details` it is the main thread's mask that is in the way."""
    errors: list[BaseException] = []

    async def receive() -> None:
        async with aipc.open_signal_receiver(signal.SIGUSR1, details=details):
            pass

    def elsewhere() -> None:
        try:
            asyncio.run(receive())
        except aipc.UnsupportedOperation as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    (error,) = errors
    assert ("MainThread" if details else "main thread") in str(error)


# Receiving from a signalfd


async def test_sender_and_value() -> None:
    async with detailed(FLAG, ONE) as received:
        aipc.send_signal(ME, FLAG)
        assert await take(received) == (FLAG, ME, os.getuid(), None)
        for value in (0, 1, -1, (1 << 31) - 1, -(1 << 31)):
            aipc.send_signal(ME, ONE, value)
            assert await take(received) == (ONE, ME, os.getuid(), value)
        signal.raise_signal(FLAG)  # tgkill(2)
        assert await take(received) == (FLAG, ME, os.getuid(), None)


async def test_realtime_signals_queue() -> None:
    """Each of a kind, in order; of several kinds the lowest number first (signal(7))."""
    async with detailed(ONE, OTHER) as received:
        for value in range(100):
            aipc.send_signal(ME, OTHER, value)
            aipc.send_signal(ME, ONE, value)
        got = [await take(received) for _ in range(200)]
        assert [(info.signum, info.value) for info in got] == [
            (signum, value) for signum in (ONE, OTHER) for value in range(100)
        ]
        await expect_none(received)


async def test_a_standard_signal_is_a_flag() -> None:
    """Also for a receiver to whom another one handed it over."""
    async with detailed(FLAG) as received, detailed(FLAG) as beside:
        for _ in range(3):
            aipc.send_signal(ME, FLAG)
            aipc.send_signal(ME, FLAG)
            await take(received)
            await expect_none(received)
        await take(beside)
        await expect_none(beside)


async def test_mask_of_others_stays() -> None:
    """These signals were blocked before: they are so afterwards, and what nobody took is still there."""
    async with detailed(ONE):
        aipc.send_signal(ME, ONE, 1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) >= BLOCKED_SIGNALS
    assert signal.sigtimedwait([ONE], 0).si_signo == ONE


@pytest.mark.parametrize("moment", [Moment.AWAIT, Moment.READINESS])
async def test_cancelled_plain_iteration_takes_nothing(moment: Moment) -> None:
    """Through the loop: a signal that comes while the iteration is cancelled is received once, now or later."""
    with anyio.fail_after(60):
        async with aipc.open_signal_receiver(signal.SIGUSR1) as received:
            cancelled = 0
            while cancelled < 1_000:
                sent = False

                def suspended(number: int, parked: bool) -> None:
                    nonlocal sent
                    if not sent:
                        sent = True
                        aipc.send_signal(ME, signal.SIGUSR1)

                outcome = await inject(received.__anext__(), 0, moment, suspended)
                if outcome is CANCELLED:
                    cancelled += 1
                    outcome = await anext(received)
                assert outcome.signum == signal.SIGUSR1
                await settle()
            await expect_none(received)


@pytest.mark.parametrize("moment", [Moment.AWAIT, Moment.READINESS])
async def test_cancelled_iteration_takes_nothing(moment: Moment) -> None:
    """10,000 cancellations at every await: each signal is received once, now or later."""
    with anyio.fail_after(60):
        async with detailed(ONE) as received:
            cancelled = attempts = 0
            while cancelled < 5_000:
                at, ready_at, value = attempts % 3, attempts // 3 % 3, attempts
                attempts += 1
                sent = False

                def suspended(number: int, parked: bool, ready_at: int = ready_at, value: int = value) -> None:
                    nonlocal sent
                    if (parked or number >= ready_at) and not sent:
                        sent = True
                        aipc.send_signal(ME, ONE, value)

                outcome = await inject(received.__anext__(), at, moment, suspended)
                if outcome is CANCELLED:
                    cancelled += 1
                    if not sent:
                        aipc.send_signal(ME, ONE, value)
                    outcome = await anext(received)
                assert outcome.value == value
            await expect_none(received)


# What needs a process of its own: masks, and threads that start before the receiver

PRELUDE = """
import os, signal, subprocess, sys, threading, anyio, aipc
loop, ME, ONE = sys.argv[1], os.getpid(), signal.SIGRTMIN + 4
def mask(): return signal.pthread_sigmask(signal.SIG_BLOCK, [])
def blocked(where): return int(where.partition("SigBlk:")[2].split()[0], 16)
def main(function):
    backend, options = ("trio", {}) if loop == "trio" else ("asyncio", {"use_uvloop": loop == "uvloop"})
    anyio.run(function, backend=backend, backend_options=options)
    print("ok", flush=True)
"""


@pytest.fixture
def loop(anyio_backend: tuple[str, dict[str, bool]]) -> str:
    return "uvloop" if anyio_backend[1] else anyio_backend[0]


@pytest.fixture
def alone(loop: str) -> Callable[[str], None]:
    """Runs `async def function()` in a fresh process, with no signal blocked; it must end well."""

    def run_alone(code: str) -> None:
        code = f"{PRELUDE}signal.pthread_sigmask(signal.SIG_SETMASK, [])\n{code}\nmain(function)\n"
        with python(code, loop) as child:
            assert said(child) == "ok"

    return run_alone


def test_unread_signals_do_not_kill(alone: Callable[[str], None]) -> None:
    """What was blocked here and not taken is dropped: unblocked, its default action would end the process."""
    alone("""
async def function():
    for _ in range(2):
        async with aipc.open_signal_receiver(ONE, signal.SIGTERM, details=True):
            for value in range(1000):
                aipc.send_signal(ME, ONE, value)
            aipc.send_signal(ME, signal.SIGTERM)
        async with aipc.open_channel(f"signal:{ONE}") as channel:
            aipc.send_signal(ME, ONE, 5)
        assert mask() == set(), mask()
    assert signal.sigpending() == set()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
""")


def test_masks_of_several_owners(alone: Callable[[str], None]) -> None:
    alone("""
async def function():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    usr2 = {signal.SIGUSR2}
    one = aipc.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2, details=True)
    first = await one.__aenter__()
    async with aipc.open_signal_receiver(signal.SIGUSR1, ONE, details=True) as second:
        with aipc.blocked_signals(signal.SIGUSR1, signal.SIGHUP):
            assert mask() == {signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, ONE}
        await one.__aexit__(None, None, None)
        assert mask() == {signal.SIGUSR1, signal.SIGUSR2, ONE}
        os.kill(ME, signal.SIGUSR1)
        assert (await anext(second)).signum == signal.SIGUSR1
    assert mask() == usr2
""")


def test_thread_that_does_not_block(alone: Callable[[str], None]) -> None:
    """The kernel would interrupt it, and the default action end the process: refused, with its name."""
    alone("""
async def function():
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="the early one")
    thread.start()
    for opening in (aipc.open_signal_receiver(ONE, details=True), aipc.open_channel(f"signal:{ONE}")):
        try:
            async with opening:
                raise AssertionError
        except aipc.UnsupportedOperation as error:
            assert "the early one" in str(error) and "SIGRTMIN+4" in str(error), error
    assert mask() == set()
    go.set()
    thread.join()
    async with aipc.open_signal_receiver(ONE, details=True) as received:
        late = threading.Thread(target=lambda: masks.append(mask()))
        masks = []
        late.start()
        late.join()
        assert masks == [{ONE}]
""")


def test_children_start_with_a_clean_mask(alone: Callable[[str], None]) -> None:
    alone("""
from aipc._sys import signal_mask
async def function():
    command = [sys.executable, "-c", "import signal; print(sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))))"]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    assert not signal_mask.blocks_here()
    async with aipc.open_signal_receiver(ONE, signal.SIGUSR2, details=True):
        aipc.send_signal(ME, ONE, 1)  # pending: unblocking here would be the end
        assert signal_mask.blocks_here()
        said = subprocess.check_output(command, preexec_fn=signal_mask.clean_child, text=True)
        assert said == "[12]\\n", said
        reading, writing = os.pipe()
        child = os.posix_spawn(
            command[0], command, os.environ, setsigmask=signal_mask.child_mask(),
            file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)],
        )
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(reading, 100) == b"[12]\\n"
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
""")


def test_children_ended(alone: Callable[[str], None]) -> None:
    """SIGCHLD with `details`, on uvloop, too: the child's pid; the earlier handler and waitpid(2) are unharmed."""
    alone("""
async def function():
    seen = []
    signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
    async with aipc.open_signal_receiver(signal.SIGCHLD, details=True) as received:
        child = subprocess.Popen(["true"])
        info = await anext(received)
        assert (info.signum, info.pid, info.value) == (signal.SIGCHLD, child.pid, None)
        assert child.wait() == 0 and seen == []
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert seen == [1]  # it was never dropped
    assert child.wait() == 0
""")


def test_signals_while_receivers_come_and_go(alone: Callable[[str], None]) -> None:
    """Each goes to a receiver or to the earlier handler; at no moment is the default action in force."""
    alone("""
async def function():
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    with subprocess.Popen(["sh", "-c", f"while kill -USR1 {ME}; do :; done"], stdout=subprocess.DEVNULL) as flood:
        while not seen:
            await anyio.sleep(0)
        for number in range(5_000):
            async with aipc.open_signal_receiver(signal.SIGUSR1, details=number % 10 == 0) as received:
                if number % 100 < 2:
                    await anext(received)
        flood.kill()
""")


def test_no_descriptors_left(alone: Callable[[str], None]) -> None:
    """Nothing is blocked, and it works again afterwards."""
    alone("""
import resource
async def function():
    openings = (aipc.open_signal_receiver(ONE, details=True), aipc.open_channel(f"signal:{ONE}"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    for opening in openings:
        try:
            async with opening:
                raise AssertionError
        except OSError as error:
            assert error.errno == 24, error
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert mask() == set()
    async with aipc.open_signal_receiver(ONE, details=True):
        pass
""")


# Sending


def test_does_it_exist() -> None:
    aipc.send_signal(ME, 0)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(child.pid)
    aipc.send_signal(child.pid, 0)
    aipc.send_signal(child.pid, 0, pidfd=pidfd)
    child.communicate(b"")
    for options in ({}, {"value": 1}, {"pidfd": pidfd}, {"pidfd": pidfd, "value": 1}, {"group": True}):
        with pytest.raises(aipc.ObjectMissing, match=str(child.pid)) as caught:
            aipc.send_signal(child.pid, 0, **options)
        assert isinstance(caught.value, ProcessLookupError)
        assert isinstance(caught.value, aipc.ProcessMissing)
    os.close(pidfd)


def test_not_allowed() -> None:
    """A process of another user's, as seen by one without privileges."""
    if os.getuid():
        with pytest.raises(aipc.AccessDenied):
            aipc.send_signal(1, 0)
        return
    code = (
        "import os, aipc\n"
        f"aipc.send_signal({ME}, 0)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "for value in (None, 1):\n"
        f"    try: aipc.send_signal({ME}, {int(FLAG)}, value)\n"
        "    except aipc.AccessDenied as error: print(error, flush=True)\n"
    )
    with python(code) as child:
        assert [said(child).rpartition(": ")[0] for _ in range(2)] == [f"[Errno 1] SIGUSR2 to process {ME}"] * 2


@pytest.mark.parametrize("form", ["group", "negative"])
def test_process_group(form: str) -> None:
    children = []
    for _ in range(3):
        children.append(subprocess.Popen(["sleep", "60"], process_group=children[0].pid if children else 0))
    leader = children[0].pid
    if form == "group":
        aipc.send_signal(leader, signal.SIGTERM, group=True)
    else:
        aipc.send_signal(-leader, signal.SIGTERM)
    assert [child.wait(10) for child in children] == [-signal.SIGTERM] * 3


def test_pidfd_guards_against_reuse() -> None:
    """The pid says another process by now: the pidfd's owner gets the signal, or nobody."""
    with subprocess.Popen(["sleep", "60"]) as child, subprocess.Popen(["sleep", "60"]) as reused:
        pidfd = os.pidfd_open(child.pid)
        aipc.send_signal(reused.pid, signal.SIGTERM, pidfd=pidfd)
        assert child.wait(10) == -signal.SIGTERM
        for value in (None, 3):
            with pytest.raises(aipc.ObjectMissing):
                aipc.send_signal(reused.pid, signal.SIGTERM, value, pidfd=pidfd)
        os.close(pidfd)
        assert reused.poll() is None
        reused.kill()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0, signal.SIGTERM), ValueError),
        ((-1, signal.SIGTERM), ValueError),
        ((1 << 31, 0), ValueError),
        ((ME, -1), ValueError),
        ((ME, 32), ValueError),
        ((ME, 65), ValueError),
        ((ME, FLAG, 1 << 31), ValueError),
        ((ME, FLAG, -(1 << 31) - 1), ValueError),
        ((-ME, FLAG, 1), aipc.UnsupportedOperation),
    ],
)
def test_what_cannot_be_sent(arguments: tuple[int, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        aipc.send_signal(*arguments)


def test_limit() -> None:
    """At RLIMIT_SIGPENDING a signal with a value is refused, not lost."""
    with queued_signals(50):
        count = 0
        with pytest.raises(aipc.LimitExceeded, match="RLIMIT_SIGPENDING"):  # noqa: PT012 - counted until it raises
            while True:
                aipc.send_signal(ME, ONE, count)
                count += 1
        pending = []
        while info := signal.sigtimedwait([ONE], 0):
            pending.append(info)
        assert 0 < len(pending) == count <= 50
        aipc.send_signal(ME, ONE, 1)


def test_blocked_signals(alone: Callable[[str], None]) -> None:
    alone("""
async def function():
    caught = []
    signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
    with aipc.blocked_signals(signal.SIGUSR1, signal.SIGHUP):
        with aipc.blocked_signals(signal.SIGUSR1):
            os.kill(ME, signal.SIGUSR1)
            os.kill(ME, signal.SIGUSR1)
        assert caught == []
    assert caught == [signal.SIGUSR1]
    assert mask() == set()
    try:
        with aipc.blocked_signals(65):
            raise AssertionError
    except ValueError as error:
        assert "65" in str(error)
""")


# Between processes


async def test_from_c(c_peer: str) -> None:
    async with detailed(ONE) as received:
        with process(c_peer, "send", str(ME), str(int(ONE)), "-2", "5") as peer:
            got = [await take(received) for _ in range(5)]
            pid, uid, _ = map(int, said(peer).split())
    assert got == [(ONE, pid, uid, value) for value in (-2, -1, 0, 1, 2)]
    assert pid == peer.pid


def test_to_c(c_peer: str) -> None:
    with process(c_peer, "receive", str(int(ONE)), "5") as peer:
        pid = int(said(peer))
        for value in (-2, -1, 0, 1):
            aipc.send_signal(pid, ONE, value)
        pidfd = os.pidfd_open(pid)
        aipc.send_signal(pid, ONE, 2, pidfd=pidfd)
        os.close(pidfd)
        assert [said(peer) for _ in range(5)] == [f"{value} {ME} {os.getuid()}" for value in (-2, -1, 0, 1, 2)]


RECEIVER = f"""{PRELUDE}
import resource
resource.setrlimit(resource.RLIMIT_SIGPENDING, (5_000, resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]))
async def function():
    sender = None
    async with aipc.open_signal_receiver(ONE, details=True) as received:
        print(ME, flush=True)
        for count in map(int, sys.stdin):
            for value in range(count):
                info = await anext(received)
                assert info.value == value, (info, value)
                sender = sender or info.pid
                assert info.pid == sender
            print(sender, flush=True)
main(function)
"""


def test_100_000_with_values_from_python(loop: str) -> None:
    """In order, none lost below the kernel's limit; at it an error, and nothing of that signal sent."""
    with python(RECEIVER, loop) as receiver:
        pid = int(said(receiver))
        refused, value = 0, 0
        while not refused:  # nobody reads yet
            try:
                aipc.send_signal(pid, ONE, value)
                value += 1
            except aipc.LimitExceeded:
                refused += 1
        assert 0 < value <= 5_000
        tell(receiver, str(value))
        assert said(receiver) == str(ME)
        tell(receiver, "100000")
        for value in range(100_000):
            while True:
                with suppress(aipc.LimitExceeded):
                    aipc.send_signal(pid, ONE, value)
                    break
                os.sched_yield()
        assert said(receiver) == str(ME)


async def test_100_000_with_values_from_c(c_peer: str) -> None:
    with queued_signals(5_000):
        async with detailed(ONE) as received:
            with process(c_peer, "send", str(ME), str(int(ONE)), "0", "100000") as peer, anyio.fail_after(60):
                for value in range(100_000):
                    info = await anext(received)
                    assert (info.value, info.pid) == (value, peer.pid)
                assert int(said(peer).split()[0]) == peer.pid
            await expect_none(received)
