"""The C library, its example and the probe, built once a session with whatever CMake and compiler there are."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "native"


@dataclass(frozen=True)
class Build:
    folder: Path

    def probe(self, *arguments: object, data: bytes = b"") -> bytes:
        """The standard output of the probe, which must succeed."""
        command = [str(self.folder / "probe"), *map(str, arguments)]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def can_build() -> bool:
    return shutil.which("cmake") is not None and shutil.which("c++") is not None


def make(folder: Path) -> Build:
    """Builds into ``folder``, or into $SOTTOVOCE_NATIVE_BUILD, which keeps what was compiled (kernels take minutes)."""
    kept = os.environ.get("SOTTOVOCE_NATIVE_BUILD")
    folder = Path(kept) if kept else folder
    configure = ["cmake", "-S", str(SOURCE), "-B", str(folder), "-DSOTTOVOCE_PYTHON=OFF", "-DSOTTOVOCE_DEVICE=ON"]
    subprocess.run(configure, check=True, capture_output=True)
    targets = ["--target", "probe", "transcribe"]
    subprocess.run(["cmake", "--build", str(folder), "--parallel", *targets], check=True, capture_output=True)
    return Build(folder)
