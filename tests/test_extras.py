"""A missing extra: the error says how to install it, from where this aipc came."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aipc._extras import install_command

ORIGINS = {
    "index": (None, "pip install 'aipc[services]'"),
    "directory": ({"url": "file:///src/aipc", "dir_info": {}}, "pip install 'aipc[services] @ file:///src/aipc'"),
    "editable": ({"url": "file:///my%20src/aipc", "dir_info": {"editable": True}}, "pip install -e '/my src/aipc[services]'"),
    "wheel": ({"url": "file:///d/aipc.whl", "archive_info": {}}, "pip install 'aipc[services] @ file:///d/aipc.whl'"),
    "git": (
        {"url": "https://host/aipc.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
        "pip install 'aipc[services] @ git+https://host/aipc.git'",
    ),
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_command_fits_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    installed = tmp_path / "aipc-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: aipc\nVersion: 1\n")
    came_from, command = ORIGINS[origin]
    if came_from:
        (installed / "direct_url.json").write_text(json.dumps(came_from))
    monkeypatch.syspath_prepend(tmp_path)
    assert install_command("services") == command


@pytest.mark.parametrize("statement", ["from aipc import rpc", "import aipc; aipc.typed", "import aipc; aipc.typed(None, int)"])
def test_services_without_msgspec(statement: str) -> None:
    code = f"import sys; sys.modules['msgspec'] = None\n{statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: No module named 'msgspec'; aipc needs it here: pip install ")
    assert "[services]" in last
