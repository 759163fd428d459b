"""The compiled C library, for the tests that run it."""

from __future__ import annotations

import pytest
from native_build import Build, can_build, make


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    if not can_build():
        pytest.skip("needs cmake and a C++ compiler")
    return make(tmp_path_factory.mktemp("native"))
