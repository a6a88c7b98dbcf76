"""FIFOs: how one is made and removed, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

import aipc

from .fifos import receiving, sending

pytestmark = pytest.mark.anyio


async def test_missing(tmp_path: Path) -> None:
    for opening in (receiving(tmp_path / "none"), sending(tmp_path / "none"), receiving(tmp_path / "none", keep_open=True)):
        with pytest.raises(aipc.ObjectMissing, match="create=1"):
            await opening
    assert list(tmp_path.iterdir()) == []


async def test_mode_is_exact_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        async with receiving(tmp_path / "open", create=True, mode=0o622), receiving(tmp_path / "default", create=True):
            modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("open", "default")]
            assert modes == [0o622, 0o600]
    finally:
        os.umask(before)


async def test_create_takes_what_is_there(path: Path) -> None:
    path.chmod(0o640)
    async with receiving(path, create=True, mode=0o600):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.exists()


async def test_exclusive(tmp_path: Path) -> None:
    async with receiving(tmp_path / "fifo", exclusive=True):
        with pytest.raises(aipc.ObjectExists):
            await receiving(tmp_path / "fifo", exclusive=True)
    assert (tmp_path / "fifo").is_fifo()


async def test_unlink(path: Path) -> None:
    async with receiving(path, unlink=True):
        assert path.exists()
    assert not path.exists()


async def test_unlink_leaves_another_file_alone(path: Path) -> None:
    async with receiving(path, unlink=True):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


async def test_what_is_no_fifo(tmp_path: Path, path: Path) -> None:
    """Refused, and not even opened: opening a device can have effects."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        for name in ("file", "directory", "link", "dangling", "socket"):
            for opening in (receiving, sending):
                with pytest.raises(
                    aipc.WrongObject, match="symbolic link" if "ing" in name or name == "link" else "not a FIFO"
                ):
                    await opening(tmp_path / name, create=True, unlink=True)
            assert os.path.lexists(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(aipc.WrongObject):
        await sending(Path("/dev/null"))
    with pytest.raises(aipc.WrongObject):
        await sending(path / "below")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("fifo:", "needs a path"),
        ("fifo://host/tmp/x", "needs a path"),
        ("fifo:/tmp/x?direction=both", "receive or send"),
        ("fifo:/tmp/x?framing=u16", "u16"),
        ("fifo:/tmp/x?keep_open=1&wait=1", "has nothing to wait for"),
        ("fifo:/tmp/x?type=1", "unknown option 'type'"),
    ],
)
async def test_malformed(url: str, what: str) -> None:
    with pytest.raises(aipc.AddressError, match=what):
        await aipc.open_channel(url, create=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("fails", [False, True])
async def test_a_fifo_of_somebody_else(fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that another user puts in the place of the new one, at once, is not ours to change or to remove."""
    path = tmp_path / "fifo"
    mkfifo = os.mkfifo

    def overtaken(*arguments: object) -> None:  # no real process is that quick each time
        mkfifo(*arguments)
        path.unlink()
        mkfifo(path, 0o640)
        os.chown(path, 65534, 65534)
        path.chmod(0o640)

    monkeypatch.setattr(os, "mkfifo", overtaken)
    if fails:
        with pytest.raises(aipc.NobodyListens):
            await sending(path, create=True, mode=0o666, wait=False)
    else:
        await (await receiving(path, create=True, mode=0o666)).aclose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_uid == 65534
