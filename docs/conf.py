"""Builds the documentation as a site: `nox -s docs`, or `sphinx-build -W --keep-going docs site`."""

from __future__ import annotations

import builtins
import os
import re
from importlib.metadata import version as version_of
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

project = "aipc"
version = release = version_of("aipc")
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
if os.environ.get("AIPC_DOCS_ONLINE"):  # inventories come from the network, and the build must work without one
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "anyio": ("https://anyio.readthedocs.io/en/stable", None),
    "trio": ("https://trio.readthedocs.io/en/stable", None),
}

myst_heading_anchors = 4
default_role = "literal"  # docstrings mark code with single backticks
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "extra_attributes"}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"aipc {release}"
html_static_path = ["_static"]
html_css_files = ["aipc.css"]
html_copy_source = False


def _inside(_app: Sphinx, page: str, source: list[str]) -> None:
    """CONTRIBUTING.md and CHANGELOG.md are pages of the site, too. Links are written as they are right in the repository."""
    if page in {"contributing", "changelog"}:
        source[0] = Path(__file__).parent.with_name(f"{page.upper()}.md").read_text()
        source[0] = source[0].replace("](docs/", "](")
        source[0] = re.sub(r"\[([^]]+)\]\(changes/[^)]*\)", r"`\1`", source[0])
    source[0] = source[0].replace("](../../CONTRIBUTING.md", "](../contributing.md")


def _as_rst(_app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """A docstring's table of attributes, `name    text`, becomes a list."""
    column = 0  # of the text, in a table
    for number, line in enumerate(lines):
        row = re.match(r"(\w+(?:, \w+)*) +(?=\S)", line)
        if row and (row[0].endswith("  ") or row.end() == column):
            column = row.end()
            lines[number] = f"- `{row[1]}`: {line[column:]}"
        elif column and line.startswith(" "):
            lines[number] = f"  {line.strip()}"
        else:
            column = 0
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]  # an empty comment: Napoleon reads the first line as `type: text`, and ours may have a colon


def _unlinked_builtins(_app: Sphinx, page: nodes.document) -> None:
    """Sphinx would link `bytes` and `type` to members of that name."""
    for reference in list(page.findall(addnodes.pending_xref)):
        if hasattr(builtins, reference["reftarget"]):
            reference.replace_self(reference.children)


def _unbroken_names(_app: Sphinx, page: nodes.document) -> None:
    """A short piece of code stays on one line, also in a narrow column: see `_static/aipc.css`."""
    for code in page.findall(nodes.literal):
        if len(code.astext()) <= 24:
            code["classes"].append("short")


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _inside)
    app.connect("autodoc-process-docstring", _as_rst, priority=400)
    app.connect("doctree-read", _unlinked_builtins)
    app.connect("doctree-read", _unbroken_names)
