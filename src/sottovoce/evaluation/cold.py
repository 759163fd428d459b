"""A cold start: what it costs a fresh interpreter to load a model and decode its first frame."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sottovoce.errors import FormatError

_CHILD = Path(__file__).with_name("cold_child.py")


@dataclass(frozen=True)
class ColdStart:
    """Milliseconds to import the runtime, to load the model, and from opening the file to the end of the first encoder
    frame, the earliest at which a token can appear; and the most memory held by the end of loading and by the end of
    all, in bytes above a bare interpreter with NumPy."""

    import_ms: float
    load_ms: float
    first_frame_ms: float
    load_bytes: int
    peak_bytes: int


def cold_start(model: Path, *, num_threads: int = 1) -> ColdStart:
    """Measured in a process of its own; the file itself is warm in the system's cache where it was just read.

    Raises FormatError with the child's last line where it fails.
    """
    command = [sys.executable, "-P", str(_CHILD), str(model), str(num_threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FormatError(f"{model}: cannot be measured: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return ColdStart(**json.loads(done.stdout))
