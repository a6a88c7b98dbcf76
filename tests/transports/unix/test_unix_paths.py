"""Socket files and abstract names: who owns one, who may take it over, and why connecting fails."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

import aipc
from aipc.abc import Channel
from aipc.testing.expect import settle

from ...peers import python, said, tell

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(place: Path) -> Path:
    return place / "socket"


@contextmanager
def bound(path: Path, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    """A plain socket at `path`."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))
        sock.setblocking(False)
        yield sock


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


async def works(url: str, listener: aipc.Listener) -> None:
    """A message goes from a new connection to the listener."""
    async with aipc.open_channel(url) as ours, await listener.accept() as theirs:
        await ours.send(b"works")
        assert await theirs.receive() == b"works"


async def test_stale_file_is_taken_over(path: Path) -> None:
    with bound(path):
        pass
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}") as listener:
            await works(f"unix:{path}", listener)


async def test_live_listener_is_not_stolen_from(path: Path) -> None:
    before = os.listdir(path.parent)
    with bound(path) as live:
        live.listen()
        with anyio.fail_after(10), pytest.raises(aipc.ObjectExists, match="left alone"):
            await aipc.listen(f"unix:{path}")
        with pytest.raises(BlockingIOError):
            live.accept()  # it saw no stray connection
        async with aipc.open_channel(f"unix:{path}"):
            live.accept()[0].close()
    assert os.listdir(path.parent) == [*before, "socket"]


async def test_own_listener_is_not_stolen_from(path: Path) -> None:
    url = f"unix:{path}"
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener:
            with pytest.raises(aipc.ObjectExists):
                await aipc.listen(url)
            await works(url, listener)
            with anyio.move_on_after(0.01) as scope:
                await listener.accept()
            assert scope.cancelled_caught


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
async def test_bound_socket_is_not_stolen(kind: int, path: Path) -> None:
    """Also one that does not listen yet, or is of another kind."""
    with bound(path, kind):
        with anyio.fail_after(10), pytest.raises(aipc.ObjectExists):
            await aipc.listen(f"unix:{path}")
        assert path.is_socket()


async def test_exclusive(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}", exclusive=True) as listener:
            await works(f"unix:{path}", listener)
        with bound(path):
            pass
        with pytest.raises(aipc.ObjectExists, match="exclusive"):
            await aipc.listen(f"unix:{path}", exclusive=True)
    assert path.is_socket()


@pytest.mark.parametrize("what", ["file", "directory", "link", "link to a socket", "dangling link"])
async def test_anything_else_is_left_alone(what: str, path: Path) -> None:
    other = path.with_name("other")
    if what == "file":
        path.write_text("content")
    elif what == "directory":
        path.mkdir()
    else:
        if what == "link":
            other.write_text("content")
        elif what == "link to a socket":
            with bound(other):
                pass
        path.symlink_to(other)
    before = path.lstat()
    with anyio.fail_after(10), pytest.raises(aipc.WrongObject, match="left alone"):
        await aipc.listen(f"unix:{path}")
    assert os.path.samestat(path.lstat(), before)
    assert path.lstat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("mask", [0o077, 0], ids=oct)
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o660, 0], ids=oct)
async def test_mode_is_exact(mode: int, mask: int, path: Path) -> None:
    with anyio.fail_after(10), umask(mask):
        async with aipc.listen(f"unix:{path}", mode=mode):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        async with aipc.listen(f"unix:{path}?mode={mode:o}"):
            assert stat.S_IMODE(path.stat().st_mode) == mode


async def test_default_mode(path: Path) -> None:
    with anyio.fail_after(10), umask(0):
        async with aipc.listen(f"unix:{path}"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_file_goes_with_its_listener(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}"):
            assert path.is_socket()
        assert not path.exists()
        async with aipc.listen(f"unix:{path}", unlink=False):
            pass
        assert path.is_socket()


async def test_file_goes_when_closing_is_cancelled(path: Path) -> None:
    with anyio.fail_after(10):
        listener = await aipc.listen(f"unix:{path}")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await listener.aclose()
    assert not path.exists()


async def test_somebody_elses_file_stays(path: Path) -> None:
    with anyio.fail_after(10):
        listener = await aipc.listen(f"unix:{path}")
        path.unlink()
        with bound(path) as other:
            other.listen()
            await listener.aclose()
            assert path.is_socket()
            await (await aipc.open_channel(f"unix:{path}")).aclose()


async def test_file_that_is_gone_already(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}"):
            path.unlink()
    assert not path.exists()


async def test_relative_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is removed even if the process has changed its directory since."""
    monkeypatch.chdir(path.parent)
    with anyio.fail_after(10):
        async with aipc.listen("unix:socket") as listener:
            await works("unix:socket", listener)
            monkeypatch.chdir("/")
            await works(f"unix:{path}", listener)
    assert not path.exists()


async def test_forked_child_does_not_remove_it(path: Path) -> None:
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}") as listener:
            pid = os.fork()
            if pid == 0:
                try:
                    listener.aclose().send(None)
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            await works(f"unix:{path}", listener)


@pytest.mark.parametrize("length", [107, 108, 109, 400])
async def test_long_path(length: int, path: Path) -> None:
    """sockaddr_un holds 107 bytes and a zero (unix(7))."""
    directory = str(path.parent)
    while len(directory) + len("/socket") < length:
        rest = length - len(directory) - len("/socket")
        directory += "/" + "d" * (min(rest, 200) - 1 if rest > 1 else 1)
    os.makedirs(directory)
    path = Path(directory, "socket")
    assert len(str(path)) >= length
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}") as listener:
            await works(f"unix:{path}", listener)
            with pytest.raises(aipc.ObjectExists):
                await aipc.listen(f"unix:{path}")
        assert not path.exists()
        with bound_from_within(path):
            pass
        async with aipc.listen(f"unix:{path}") as listener:
            await works(f"unix:{path}", listener)


@contextmanager
def bound_from_within(path: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with bound(Path(path.name)):
            yield
    finally:
        os.chdir(before)


@pytest.mark.parametrize("length", [108, 200, 300])
async def test_long_name(length: int, path: Path) -> None:
    url = f"unix:{path.with_name('n' * length)}"
    with anyio.fail_after(10):
        with pytest.raises(aipc.AddressError):
            await aipc.listen(url)
        with pytest.raises(aipc.AddressError):
            await aipc.open_channel(url)
    assert os.listdir(path.parent) == []


async def test_abstract_name() -> None:
    url = f"unix:@aipc-test-{os.getpid()}"
    with anyio.fail_after(10):
        async with aipc.listen(url) as listener:
            await works(url, listener)
            with pytest.raises(aipc.ObjectExists):
                await aipc.listen(url)
            await works(url, listener)
        with pytest.raises(aipc.NobodyListens):
            await aipc.open_channel(url)


async def test_long_abstract_name() -> None:
    longest = f"unix:@{os.getpid()}".ljust(len("unix:@") + 107, "n")
    with anyio.fail_after(10):
        async with aipc.listen(longest) as listener:
            await works(longest, listener)
        with pytest.raises(aipc.AddressError):
            await aipc.listen(longest + "n")
        with pytest.raises(aipc.AddressError):
            await aipc.open_channel(longest + "n")


async def test_connecting_to_nothing(path: Path) -> None:
    with anyio.fail_after(10):
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_channel(f"unix:{path}")
        with pytest.raises(aipc.ObjectMissing):
            await aipc.open_channel(f"unix:{path}/below")
        with pytest.raises(aipc.ObjectMissing):
            await aipc.listen(f"unix:{path}/below")


async def test_connecting_to_nobody(path: Path) -> None:
    with bound(path), anyio.fail_after(10), pytest.raises(aipc.NobodyListens):
        await aipc.open_channel(f"unix:{path}")  # bound, but not listening
    with anyio.fail_after(10), pytest.raises(aipc.NobodyListens):
        await aipc.open_channel(f"unix:{path}")  # stale
    assert path.is_socket()


async def test_connecting_to_something_else(path: Path) -> None:
    with anyio.fail_after(10):
        path.write_text("content")
        with pytest.raises(aipc.WrongObject):
            await aipc.open_channel(f"unix:{path}")
        with pytest.raises(aipc.WrongObject):
            await aipc.open_channel(f"unix:{path}/below")
        with pytest.raises(aipc.WrongObject):
            await aipc.open_channel(f"unix:{path.parent}")
        with bound(path.with_name("datagram"), socket.SOCK_DGRAM), pytest.raises(aipc.WrongObject):
            await aipc.open_channel(f"unix:{path.with_name('datagram')}")


STRANGER = """
import asyncio, os, aipc
openings = aipc.open_channel("unix:socket"), aipc.listen("unix:private/own")  # all is imported by now
if os.getuid() == 0:
    os.setuid(65534)
async def main():
    for opening in openings:
        try:
            await opening
        except PermissionError as error:
            print(type(error).__name__, flush=True)
asyncio.run(main())
"""


async def test_access_denied(path: Path) -> None:
    path.parent.chmod(0o755)
    path.with_name("private").mkdir(mode=0)
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}", mode=0):
            with python(STRANGER, cwd=path.parent) as stranger:
                assert [said(stranger), said(stranger)] == ["AccessDenied", "AccessDenied"]


async def test_full_backlog(path: Path) -> None:
    """Connecting waits for room, and can be cancelled."""
    waiting = 0
    with ExitStack() as stack, anyio.fail_after(10):
        listener = await aipc.listen(f"unix:{path}?backlog=1")
        try:
            while True:
                peer = stack.enter_context(socket.socket(socket.AF_UNIX))
                peer.setblocking(False)
                peer.connect(str(path))
                waiting += 1
        except BlockingIOError:
            assert waiting >= 1
        opened: list[Channel] = []

        async def connect() -> None:
            opened.append(await aipc.open_channel(f"unix:{path}"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            await settle()
            tasks.cancel_scope.cancel()
        assert opened == []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            await settle()
            assert opened == []
            await (await listener.accept()).aclose()
        for _ in range(waiting):
            await (await listener.accept()).aclose()
        with anyio.move_on_after(0.01) as scope:
            await listener.accept()
        assert scope.cancelled_caught, "the cancelled connection was made"
        await opened[0].aclose()
        await listener.aclose()


RACE = """
import asyncio, sys, aipc
async def main():
    for line in sys.stdin:
        try:
            listener = await aipc.listen("unix:" + line.strip())
            print("won", flush=True)
        except aipc.ObjectExists:
            print("lost", flush=True)
asyncio.run(main())
"""


def test_race_for_a_stale_file(path: Path) -> None:
    """One wins, whoever else tries at that moment."""
    with ExitStack() as stack:
        rivals = [stack.enter_context(python(RACE)) for _ in range(4)]
        for number in range(50):
            stale = path.with_name(str(number))
            with bound(stale):
                pass
            for rival in rivals:
                tell(rival, str(stale))
            assert sorted(said(rival) for rival in rivals) == ["lost", "lost", "lost", "won"]
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(stale))


async def test_failed_listen_leaves_nothing(path: Path) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError):
        await aipc.listen(f"unix:{path}?framing=u16")
    assert os.listdir(path.parent) == []
