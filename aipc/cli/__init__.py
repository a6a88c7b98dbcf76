"""The `aipc` command."""

from __future__ import annotations

import sys

from aipc._extras import missing


def main() -> None:
    """Run the command, or say which extra it needs."""
    try:
        from .commands import app
    except ModuleNotFoundError as error:
        sys.exit(f"aipc: {missing(error.name)}")
    app()
