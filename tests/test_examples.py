"""The examples run as a user runs them, end in a packed file, and say what it cost."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sottovoce.packed import load_model
from sottovoce.packed.matrix import PackedMatrix

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "bits"), [("plain_loop.py", 4), ("lightning_callback.py", 2), ("huggingface_trainer.py", 4)]
)
def test_an_example_ends_in_a_packed_file(name: str, bits: int, tmp_path: Path) -> None:
    if name == "huggingface_trainer.py":
        pytest.importorskip("transformers", reason="needs the extra [hf]")
    out = tmp_path / "m.safetensors"
    done = run(name, "--quick", "--out", str(out))
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"(before|after): +([\d.]+) % errors, +([\d,]+) bytes", done.stdout)
    assert [line[0] for line in lines] == ["before", "after"]
    assert int(lines[1][2].replace(",", "")) == out.stat().st_size < int(lines[0][2].replace(",", "")) / 3
    matrices = [tensor for tensor in load_model(out).tensors.values() if isinstance(tensor, PackedMatrix)]
    assert matrices and all(band.bits == bits for matrix in matrices for band in matrix.bands)


def test_a_folder_without_recordings_is_one_line(tmp_path: Path) -> None:
    done = run("plain_loop.py", "--data", str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "expected FSDD recordings" in done.stderr
