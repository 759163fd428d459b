"""Run as a file in a fresh interpreter by ``export.transcripts``: stock sherpa-onnx over signals.

sherpa-onnx brings an ONNX Runtime of its own, and ends its process where a model lacks what it wants. The argument is a
JSON file: ``signals``, an .npz with sound as float32 arrays ``0``, ``1``, ..., ``rate`` in Hz, ``piece``, samples at a
time, ``passes``, keyword arguments of ``OnlineRecognizer.from_transducer`` each. Prints one JSON line: for each pass
and signal the text, the tokens and their times in seconds; for each pass the seconds to load and the processor's
seconds to transcribe; ``added_bytes`` of memory at the peak, over what the process had before; its version.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sottovoce.evaluation.cold_child import peak_bytes


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
    before = peak_bytes()
    passes = []
    for arguments in request["passes"]:
        start = time.perf_counter()
        recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(**arguments)
        loaded, cpu = time.perf_counter(), time.process_time()
        results = [transcribe(recognizer, x, request["rate"], request["piece"]) for x in signals]
        cost = {"load_s": loaded - start, "cpu_s": time.process_time() - cpu}
        passes.append({"results": results, **cost})
    done = {"version": version("sherpa-onnx"), "passes": passes, "added_bytes": peak_bytes() - before}
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
