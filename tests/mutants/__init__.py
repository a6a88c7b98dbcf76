"""Single-line defects put into the code, to see whether the tests notice: `nox -s mutants`.

cosmic-ray makes the defects; which tests run for each, and where, is decided here.
"""
