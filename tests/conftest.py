"""Shared set-up: real corpora are found through the environment, and their tests say so when they are not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora named by SOTTOVOCE_DATA."""
    folder = os.environ.get("SOTTOVOCE_DATA")
    if not folder:
        pytest.skip("needs real corpora: set SOTTOVOCE_DATA to their folder")
    return Path(folder)
