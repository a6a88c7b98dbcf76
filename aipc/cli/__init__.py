"""The `aipc` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say which extra it needs."""
    try:
        from .commands import app
    except ModuleNotFoundError as error:
        sys.exit(f"aipc: the command needs {error.name}; install it with: pip install 'aipc[cli]'")
    app()
