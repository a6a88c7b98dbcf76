"""What the tests of locks share."""

from __future__ import annotations

import pytest

from ..peers import compile_peer


@pytest.fixture(scope="package")
def c_peers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The C programs of `c_programs`, compiled."""
    return {name: str(compile_peer(name, tmp_path_factory)) for name in ("file_lock", "sysv_semaphore", "posix_semaphore")}
