"""What needs a process of its own: masks, and threads that start before the receiver."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.subjects import times

pytestmark = pytest.mark.anyio


def test_unread_signals_do_not_kill(alone: Callable[..., None]) -> None:
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


def test_masks_of_several_owners(alone: Callable[..., None]) -> None:
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


def test_thread_that_does_not_block(alone: Callable[..., None]) -> None:
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


def test_a_thread_that_may_be_ending_is_awaited(alone: Callable[..., None]) -> None:
    """One that Python does not know, or no longer: the loop serves its other tasks in the few milliseconds until it is refused."""
    alone(
        """
import _thread
async def turn(turned):
    turned.append(True)
async def function():
    stay = _thread.allocate_lock()
    stay.acquire()
    _thread.start_new_thread(stay.acquire, ())
    for opening in (aipc.open_signal_receiver(ONE, details=True), aipc.open_channel(f"signal:{ONE}")):
        turned = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn, turned)
            try:
                async with opening:
                    raise AssertionError
            except aipc.UnsupportedOperation as error:
                assert "not of Python" in str(error), error
            assert turned
    assert mask() == set()
    stay.release()
""",
        interpreter=True,
    )


def test_children_start_with_a_clean_mask(alone: Callable[..., None]) -> None:
    alone("""
from aipc._sys.signals import mask as signal_mask
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


def test_children_ended(alone: Callable[..., None]) -> None:
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


def test_signals_while_receivers_come_and_go(alone: Callable[..., None]) -> None:
    """Each goes to a receiver or to the earlier handler; at no moment is the default action in force."""
    alone(
        f"rounds = {times(1_000, 10_000)}\n"
        + """
async def function():
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    with subprocess.Popen(["sh", "-c", f"while kill -USR1 {ME}; do sleep 0.0005; done"], stdout=subprocess.DEVNULL) as flood:
        while not seen:
            await anyio.sleep(0)
        for number in range(rounds):
            async with aipc.open_signal_receiver(signal.SIGUSR1, details=number % 10 == 0) as received:
                if number % 100 < 2:
                    await anext(received)
        flood.kill()
"""
    )


def test_no_descriptors_left(alone: Callable[..., None]) -> None:
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
