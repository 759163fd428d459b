"""Instructions a weight in the inner loops of the kernels, counted in the machine code.

    python benchmarks/instructions.py [KERNEL ...]

The kernel's source is compiled once more, with the flags that CMake gives it; objdump disassembles it, and of
``one_vector<Bits>`` the innermost loop with the most dot products is taken. Every dot product there multiplies one
vector of weights (a byte each), so instructions a weight = instructions of the loop / (dot products x bytes of their
vectors). Everything counts: loads, shifts, lookups, additions, the loop's own.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tables import print_table

NATIVE = Path(__file__).parents[1] / "native"
SOURCES = {
    "avx512-vbmi-vnni": "avx512_vbmi_vnni.cpp",
    "avx512-vnni": "avx512_vnni.cpp",
    "avx-vnni": "avx2.cpp",
    "avx2": "avx2.cpp",
}
DOT = re.compile(r"vpdpbusd|vpmaddubsw")
REGISTER_BYTES = {"x": 16, "y": 32, "z": 64}
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
LOOP = re.compile(r"^j[a-z]+\s+([0-9a-f]+)\b")
TEMPLATE = re.compile(r"::one_vector<(\d), \(.*Form\)([02])>\(")
APART = "5, signs apart"  # levels of sixteen magnitudes, on paths that store the sign beside the magnitude
LABELS = {"0": "{}", "2": "{}, signs apart"}  # of Form

Instruction = tuple[int, str]


def count_instructions(kernel: str) -> tuple[dict[str, float], str]:
    """Instructions a weight by stored bits (those of any levels, and ``APART``), and "" or why there are none."""
    if kernel not in SOURCES:
        return {}, f"nothing is counted for {kernel}"
    for tool in ("objdump", "cmake"):
        if shutil.which(tool) is None:
            return {}, f"{tool} is missing"
    with TemporaryDirectory() as folder:
        try:
            text = _disassembled(kernel, Path(folder))
        except (OSError, subprocess.CalledProcessError) as error:
            return {}, f"the kernels cannot be compiled here: {error}"
    return {bits: _of_loop(body) for bits, body in _functions(text).items()}, ""


def _disassembled(kernel: str, folder: Path) -> str:
    options = ["-DSOTTOVOCE_PYTHON=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    subprocess.run(["cmake", "-S", str(NATIVE), "-B", str(folder), *options], check=True, capture_output=True)
    commands = json.loads((folder / "compile_commands.json").read_text())
    candidates = [shlex.split(c["command"]) for c in commands if Path(c["file"]).name == SOURCES[kernel]]
    arguments = next(c for c in candidates if ("-mavxvnni" in c) == (kernel == "avx-vnni"))
    arguments[arguments.index("-o") + 1] = str(folder / "kernel.o")
    subprocess.run(arguments, check=True, capture_output=True, cwd=folder)
    disassemble = ["objdump", "-d", "-C", "--no-show-raw-insn", str(folder / "kernel.o")]
    return subprocess.run(disassemble, check=True, capture_output=True, text=True).stdout


def _functions(text: str) -> dict[str, list[Instruction]]:
    """The instructions of one_vector for each width, as (address, text)."""
    found: dict[str, list[Instruction]] = {}
    body: list[Instruction] | None = None
    for line in text.splitlines():
        if match := FUNCTION.match(line):
            template = TEMPLATE.search(match[1])
            body = found.setdefault(LABELS[template[2]].format(template[1]), []) if template else None
        elif body is not None and (match := LINE.match(line)):
            body.append((int(match[1], 16), match[2].strip()))
    return found


def _of_loop(body: Sequence[Instruction]) -> float:
    """Of the loops that hold no other loop, the one with the most dot products."""
    loops = []
    for at, text in body:
        match = LOOP.match(text)
        if match and int(match[1], 16) <= at:
            loops.append((int(match[1], 16), at))
    inner = [loop for loop in loops if not any(loop != o and loop[0] <= o[0] and o[1] <= loop[1] for o in loops)]
    counted = [[text for at, text in body if first <= at <= last] for first, last in inner]
    best = max(counted, key=lambda texts: sum(bool(DOT.search(text)) for text in texts))
    weights = sum(_vector_bytes(text) for text in best if DOT.search(text))
    return len(best) / weights


def _vector_bytes(text: str) -> int:
    return max(REGISTER_BYTES[letter] for letter in re.findall(r"%([xyz])mm", text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", nargs="*", help=f"of {', '.join(SOURCES)}; by default all")
    kernels = parser.parse_args().kernel or list(SOURCES)
    if unknown := set(kernels) - set(SOURCES):
        parser.error(f"expected kernels of {', '.join(SOURCES)}, found {', '.join(sorted(unknown))}")
    counts = {kernel: count_instructions(kernel) for kernel in kernels}
    widths = ("8", "6", "5", APART, "4", "3", "2", "1")
    rows = [[k, *(f"{c[b]:.3f}" if b in c else "" for b in widths), why] for k, (c, why) in counts.items()]
    print_table("instructions a weight, one vector", ["kernel", *(f"{b} bits" for b in widths), ""], rows)


if __name__ == "__main__":
    main()
