"""`python -m aipc` is the `aipc` command."""

from aipc.cli import main

main()
