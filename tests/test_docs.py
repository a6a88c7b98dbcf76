"""The code in README and the documentation runs, each block in a process of its own; so do the examples."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import aipc.abc
from aipc import rpc, testing

from .peers import python
from .subjects import LONG

ROOT = Path(__file__).parent.parent
STRICT = "import warnings\nwarnings.simplefilter('error')\n"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}:{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *command], check=False, capture_output=True, text=True, timeout=30, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_quickly(code: str, *command: str) -> None:
    """A forked process has all modules of aipc already: that the code imports what it takes, only a long run sees."""
    if LONG:
        run(*command)
        return
    with python(STRICT + code, cwd=ROOT) as running:
        printed, _ = running.communicate(timeout=30)
    assert running.returncode == 0, printed


@pytest.mark.parametrize("block", BLOCKS)
def test_documented_code(block: str) -> None:
    run_quickly(block, "-c", block)


EXAMPLES = sorted(
    path
    for path in (ROOT / "examples").rglob("*.py")
    if not path.name.startswith("test_") and path.parent.name != "textbook"  # tests/textbook runs those
)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example(example: Path) -> None:
    run_quickly(
        f"import runpy, sys\nsys.path[0] = {str(example.parent)!r}\nrunpy.run_path({str(example)!r}, run_name='__main__')",
        str(example),
    )


@pytest.mark.costly
def test_the_examples_own_tests(tmp_path: Path) -> None:
    """In a directory of their own: in the common one, pytest removes those of earlier runs, for half a minute on a slow disk."""
    services = ROOT / "examples" / "services"
    run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(services / "pytest.ini")),
        *(f"--basetemp={tmp_path}/examples", str(services)),
    )


def test_readme_prints_what_it_promises() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert run("-c", block) == "b'hello'\n"


def test_links_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def reexported(module: ModuleType) -> list[str]:
    return re.findall(r" import (\w+) as \1$", Path(module.__file__).read_text(), re.MULTILINE)


def public_names() -> list[str]:
    contracts = [name for name, value in vars(aipc.abc).items() if isinstance(value, type) and value.__module__ == "aipc.abc"]
    names = [f"aipc.{name}" for name in aipc.__all__ if name not in {"__version__", "rpc"}]
    names += [f"aipc.abc.{name}" for name in [*contracts, "Buffer"] if name[0] != "_" and name not in aipc.__all__]
    return names + [f"aipc.{place}.{name}" for place, of in (("rpc", rpc), ("testing", testing)) for name in reexported(of)]


def test_every_public_name_has_one_entry() -> None:
    pages = (ROOT / "docs" / "reference" / "api").glob("*.md")
    text = "\n".join(map(Path.read_text, pages))
    entries = re.findall(r"^\.\. auto(?:function|class|exception|data):: ([\w.]+)", text, re.MULTILINE)
    names = public_names()
    assert sorted(set(names) - set(entries)) == [], "public names without an entry in docs/reference/api/"
    assert sorted(entries) == sorted(names)
