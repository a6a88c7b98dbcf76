"""Calls that mypy and pyright must accept (right.py) and report (wrong.py): `nox -s types`. Nothing of it is run.

Each line of wrong.py says which error it is. An error that is not reported makes its comment unnecessary, and that is an error.
"""
