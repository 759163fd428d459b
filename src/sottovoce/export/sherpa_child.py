"""Runs stock sherpa-onnx over signals, in a process of its own: ``python -m sottovoce.export.sherpa_child REQUEST``.

sherpa-onnx brings an ONNX Runtime of its own, and ends its process where a model lacks what it wants. REQUEST is a JSON
file: ``signals``, an .npz with sound as float32 arrays ``0``, ``1``, ..., ``rate`` in Hz, ``piece`` samples at a time,
``passes``, one list of keyword arguments of ``OnlineRecognizer.from_transducer`` each. Prints one JSON line: for each
pass and signal the tokens and their times in seconds, what it cost, and sherpa-onnx's version.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def transcribe(recognizer: Any, samples: np.ndarray, rate: int, piece: int) -> dict[str, Any]:
    """One stream, decoded whenever it is ready, as the examples of sherpa-onnx do."""
    stream = recognizer.create_stream()
    for start in range(0, len(samples), piece):
        stream.accept_waveform(rate, samples[start : start + piece])
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
    found = recognizer.get_result_all(stream)
    return {"text": found.text, "tokens": list(found.tokens), "times": list(found.timestamps)}


def main() -> None:
    import sherpa_onnx

    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with np.load(request["signals"]) as file:
        signals = [file[str(i)] for i in range(len(file.files))]
    before = _peak_bytes()
    passes = []
    for arguments in request["passes"]:
        start = time.perf_counter()
        recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(**arguments)
        loaded, cpu = time.perf_counter(), time.process_time()
        results = [transcribe(recognizer, x, request["rate"], request["piece"]) for x in signals]
        cost = {"load_s": loaded - start, "cpu_s": time.process_time() - cpu}
        passes.append({"results": results, **cost})
    done = {"version": version("sherpa-onnx"), "passes": passes, "added_bytes": _peak_bytes() - before}
    sys.stdout.write(json.dumps(done) + "\n")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
