"""Everything that a developer or CI runs, by name: `nox -s tests long cancellations lint types bench docs fallback tour mutants package release`."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13"]
EXTRAS = ".[cli,redis,services,trio,uvloop]"

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint", "types"]


def install(session: nox.Session, *groups: str, editable: bool = False) -> None:
    """aipc with all its extras, and dependency groups of pyproject.toml."""
    dependencies = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), *groups)
    session.install(*(["-e"] if editable else []), EXTRAS, *dependencies)


def run_suite(session: nox.Session, **environment: str) -> None:
    """Many tests wait for another process, so four run at once."""
    session.run("python", "-m", "pytest", "-n", "4", "--dist", "worksteal", *session.posargs, env=environment)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The suite, on asyncio, uvloop and trio, on each installed Python; the wheel is what is tested."""
    install(session, "test")
    run_suite(session, AIPC_TESTS="loops")


@nox.session(python="3.11")
def long(session: nox.Session) -> None:
    """The suite with its long counts, and each test on every loop: 10,000 starts and cancels, the whole tour, lasting contention."""
    install(session, "test")
    run_suite(session, AIPC_TESTS="long")


FALLBACKS = ["timerfd", "spin", "timerfd,spin", "tmpfile", "doorbell", "membarrier", "native", "order", "membarrier,order"]


@nox.session(python="3.11")
@nox.parametrize("disabled", FALLBACKS)
def fallback(session: nox.Session, disabled: str) -> None:
    """The suite with optional kernel features switched off."""
    install(session, "test")
    run_suite(session, AIPC_DISABLE=disabled)


@nox.session(python="3.11")
def cancellations(session: nox.Session) -> None:
    """The injected cancellations, 10,000 of each operation on each loop; `tests` does hundreds."""
    install(session, "test")
    session.run("python", "-m", "pytest", "-k", "cancel", *session.posargs, env={"AIPC_TESTS": "long"})


@nox.session(python="3.11")
def tour(session: nox.Session) -> None:
    """`aipc tour`, on each loop."""
    install(session)
    for loop in ("asyncio", "uvloop", "trio"):
        session.run("aipc", "tour", "--loop", loop, *session.posargs)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """ruff, and import-linter with the layers of the house."""
    install(session, "lint", editable=True)
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """mypy strict inside, pyright's completeness of the public types outside, and both on right and wrong calls."""
    install(session, "types", "test")
    session.run("mypy")
    session.run("pyright", "--verifytypes", "aipc", "--ignoreexternal")
    session.run("pyright", "--project", "tests/types")


@nox.session(python="3.11")
def mutants(session: nox.Session) -> None:
    """A random sample of single-line defects, and which of them the tests let pass: `nox -s mutants -- --seed 7 --count 100`."""
    install(session, "test", "mutants")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session(python="3.11")
def bench(session: nox.Session) -> None:
    """The promises about speed and memory, as ratios within one run."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """The documentation as a site in `site/`: no warning, no broken link inside it, and all of its code runs."""
    install(session, "test", "docs")
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "--fresh-env", "docs", "site")
    session.run("python", "-m", "pytest", "tests/test_docs.py", *session.posargs, env={"AIPC_TESTS": "long"})


@nox.session(python="3.11")
def package(session: nox.Session) -> None:
    """The wheel and the sdist in `dist/`, and what is wrong with them."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "release"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", env={"AIPC_BUILD_NATIVE": "0"})  # one wheel for every machine and every Python
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    session.run("check-wheel-contents", "dist")


@nox.session(python=[*PYTHONS, "3.14"], requires=["package"])
@nox.parametrize("kind", ["whl", "tar.gz"])
def release(session: nox.Session, kind: str) -> None:
    """What `package` has built works in a clean environment, on each installed Python."""
    (built,) = Path("dist").glob(f"*.{kind}")
    session.install(f"{built}[cli,redis,services]")  # what the public names need
    with session.chdir(session.create_tmp()):  # not the clone
        session.run(
            "python", "-W", "error", "-c", "import aipc; from aipc import rpc; [getattr(aipc, name) for name in aipc.__all__]"
        )
        session.run("aipc", "list")


@nox.session(python=False)
def changelog(session: nox.Session) -> None:
    """What the next release's notes would say."""
    tool = shutil.which("towncrier") or session.error("towncrier is not installed")
    session.run(tool, "build", "--draft", "--version", "next")
