"""Creating or opening an object: races with processes that create and remove it are repeated, within a bound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aipc._sys.create_or_open import create_or_open


class Removed:
    """A file that another process creates and removes so often that it is in the way of creating it, and gone when opened."""

    def __init__(self, path: Path, times: int) -> None:
        self.path = path
        self.times = times

    def create(self) -> int:
        if self.times:
            self.path.touch()
        return os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR)

    def open_existing(self) -> int:
        if self.times:
            self.times -= 1
            self.path.unlink()
        return os.open(self.path, os.O_RDWR)


def test_it_is_created_after_others_have_removed_it(tmp_path: Path) -> None:
    removed = Removed(tmp_path / "file", 3)
    fd, is_new = create_or_open(removed.create, removed.open_existing, exclusive=False)
    os.close(fd)
    assert is_new


def test_an_existing_one_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    removed = Removed(tmp_path / "file", 0)
    fd, is_new = create_or_open(removed.create, removed.open_existing, exclusive=False)
    os.close(fd)
    assert not is_new


def test_exclusive_and_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    removed = Removed(tmp_path / "file", 0)
    with pytest.raises(FileExistsError):
        create_or_open(removed.create, removed.open_existing, exclusive=True)


def test_only_open_and_missing(tmp_path: Path) -> None:
    removed = Removed(tmp_path / "file", 0)
    with pytest.raises(FileNotFoundError):
        create_or_open(None, removed.open_existing, exclusive=False)


def test_the_race_ends(tmp_path: Path) -> None:
    """It gives up when the object vanishes again and again."""
    removed = Removed(tmp_path / "file", 1_000_000)
    with pytest.raises(FileNotFoundError):
        create_or_open(removed.create, removed.open_existing, exclusive=False)
    assert removed.times > 990_000
