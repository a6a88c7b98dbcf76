"""Which command installs a missing optional dependency. It depends on where this aipc was installed from."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import unquote, urlsplit

_EXTRAS = {"hiredis": "redis", "msgspec": "services", "rich": "cli", "trio": "trio", "typer": "cli", "uvloop": "uvloop"}
"""The extra of pyproject.toml that has a module."""


def missing(module: str | None) -> ModuleNotFoundError:
    """The error for a module that is not installed. It says how to install it, if one of aipc's extras does."""
    text = f"No module named {module!r}"
    if module in _EXTRAS:
        text += f"; aipc needs it here: {install_command(_EXTRAS[module])}"
    return ModuleNotFoundError(text, name=module)


def install_command(extra: str) -> str:
    """How to install an extra: from a package index, or from where aipc came (direct_url.json of PEP 610)."""
    try:
        origin = json.loads(distribution("aipc").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # a source tree that is not installed
        origin = {}
    if "url" not in origin:
        return f"pip install 'aipc[{extra}]'"
    if origin.get("dir_info", {}).get("editable"):
        return f"pip install -e '{unquote(urlsplit(origin['url']).path)}[{extra}]'"
    prefix = f"{origin['vcs_info']['vcs']}+" if "vcs_info" in origin else ""
    return f"pip install 'aipc[{extra}] @ {prefix}{origin['url']}'"
