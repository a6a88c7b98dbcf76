"""Compiles `aipc/_sys/_native*.c` into the wheel, if there is a C compiler; without one the wheel is pure Python, and all works.

AIPC_BUILD_NATIVE=1: fail if it can't be compiled. AIPC_BUILD_NATIVE=0: leave it out.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = (
    "aipc/_sys/_native.c",
    *(f"aipc/_sys/_native_{part}.c" for part in ("channel", "parking", "reception", "ring", "turn")),
)
PLACE = "aipc/_sys"


def compiled(root: Path, directory: str) -> Path:
    """The extension, compiled in `directory`. Any exception: it can't be compiled here."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    extension = Extension(
        "aipc._sys._native", [str(root / source) for source in SOURCES], extra_compile_args=["-std=c11", "-D_GNU_SOURCE"]
    )
    command = build_ext(Distribution({"ext_modules": [extension]}))
    command.build_lib = command.build_temp = directory
    command.ensure_finalized()
    command.run()
    return Path(command.get_ext_fullpath(extension.name))


class NativeHook(BuildHookInterface[Any]):
    """Adds the extension to wheels; for an editable install, puts it beside its source."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("AIPC_BUILD_NATIVE", "")
        if self.target_name != "wheel" or wanted == "0":
            return
        root = Path(self.root)
        self._directory = tempfile.mkdtemp()
        try:
            built = compiled(root, self._directory)
        except BaseException as error:  # whatever is missing, aipc works without it; distutils raises SystemExit, too
            if wanted == "1" or isinstance(error, KeyboardInterrupt):
                raise
            print(f"aipc: without its native functions, which need a C compiler and Python's headers: {error}", file=sys.stderr)
            return
        if version == "editable":
            new = root / PLACE / f"{built.name}.new"
            shutil.copy(built, new)
            new.rename(root / PLACE / built.name)  # a running process keeps the old file: to write into it would kill it
            return
        build_data["force_include"][str(built)] = f"{PLACE}/{built.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_directory"):
            shutil.rmtree(self._directory, ignore_errors=True)
