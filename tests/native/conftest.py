"""The compiled C library, for the tests that run it."""

from __future__ import annotations

import os

import pytest
from filelock import FileLock
from native_build import Build, can_build, make


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    if not can_build():
        pytest.skip("needs cmake and a C++ compiler")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "native"
    with FileLock(f"{folder}.lock"):  # the first of several workers compiles it for all
        return make(folder)
