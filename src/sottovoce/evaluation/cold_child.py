"""Run as a file in a fresh interpreter by ``evaluation.cold``: loads a model, decodes one frame, prints what it cost.

Arguments: the model, the number of threads. Output: one JSON object. NumPy is imported first, since what counts is
what comes on top of it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np


def peak_bytes() -> int:
    """The most memory that this process ever held. Linux: VmHWM, since ru_maxrss is inherited from the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(model: str, threads: int) -> dict[str, float]:
    bare, start = peak_bytes(), time.perf_counter()
    from sottovoce.runtime import Recognizer

    imported = time.perf_counter()
    recognizer = Recognizer(model, num_threads=threads)
    loaded, loaded_bytes = time.perf_counter(), peak_bytes()
    stream = recognizer.create_stream()
    stream.accept_features(np.zeros((recognizer.network.architecture.subsampling, recognizer.input.dim), np.float32))
    recognizer.decode_stream(stream)
    return {
        "import_ms": 1e3 * (imported - start),
        "load_ms": 1e3 * (loaded - imported),
        "first_frame_ms": 1e3 * (time.perf_counter() - imported),
        "load_bytes": loaded_bytes - bare,
        "peak_bytes": peak_bytes() - bare,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
