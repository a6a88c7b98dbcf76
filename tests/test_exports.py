"""The public names: said once, in aipc/__init__.pyi, and imported at their first use."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import aipc


@pytest.mark.parametrize("name", aipc.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(aipc, name) is not None
    assert name in dir(aipc)


def test_a_misspelt_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="open_chanel"):
        aipc.open_chanel  # noqa: B018


def test_version() -> None:
    assert aipc.__version__ == version("aipc")


IMPORTS = {
    "import aipc": "aipc, lazy_loader",
    "from aipc import open_channel; assert callable(open_channel)": "aipc._opening.openers",
    "import aipc; assert aipc.AddressError is aipc.AddressError": "aipc.exceptions",
    "import aipc.abc; assert aipc.abc.Channel is aipc.Channel": "aipc.abc",
    "from aipc import testing; assert testing.__name__ == 'aipc.testing'": "aipc.testing",
}


@pytest.mark.parametrize("statement", IMPORTS)
def test_what_an_import_brings(statement: str) -> None:
    run(f"{statement}\nimport sys; assert {{*{IMPORTS[statement].split(', ')!r}}} <= set(sys.modules)")


def test_importing_aipc_imports_none_of_its_rooms() -> None:
    run("import aipc, sys; assert not [name for name in sys.modules if name.startswith(('aipc.', 'anyio', 'asyncio'))]")


def run(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=30)
