"""The tables of benchmarks/streaming_step.py from made-up figures, and the counting of instructions."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="the [bench] extra is not installed")
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, not a package
import instructions
import streaming_step


def row(base: str = "int8 peers", threads: int = 1, **medians: float) -> dict[str, Any]:
    found = {"8": 1.0, "5": 0.6, "4": 0.62, "torch-int8": 2.0, "onnxruntime-int8": 1.25, "onnxruntime-fp32": 0.5}
    found |= medians
    return {
        "config": {"base": base, "threads": threads, "widths": [8, 5, 4], "peers": [], "kernel": "made up"},
        "figures": {"p50_ms": {"interleaved": found, "hot": found}},
    }


def test_ratios_are_to_the_faster_int8_peer_or_to_own_8_bits() -> None:
    assert streaming_step.base_of(row(), "hot") == "onnxruntime-int8"  # fp32 is no int8 peer
    assert streaming_step.base_of(row(**{"torch-int8": 1.0}), "hot") == "torch-int8"
    assert streaming_step.ratios(row(), "hot")["5"] == pytest.approx(0.48)
    assert streaming_step.ratios(row("own 8 bits"), "hot")["5"] == pytest.approx(0.6)


def test_verdicts_name_limit_and_next_width() -> None:
    told = streaming_step.verdicts(row(), "hot")
    assert told == {"8": "", "5": "0.60 pass, 0.60 of 8 pass", "4": "0.42 FAIL, 1.03 of 5 FAIL"}
    assert streaming_step.verdicts(row("own 8 bits"), "hot")["5"].startswith("0.65 pass")


def test_the_summary_has_a_key_for_each_setting() -> None:
    written = streaming_step.summary([row(), row(threads=2)])
    assert list(written) == ["interleaved", "hot", "interleaved, 2 threads", "hot, 2 threads", "cells"]
    assert written["hot"] == {"8": 0.8, "5": 0.48, "4": 0.496}


LISTING = """
0000000000000010 <void x::(anonymous namespace)::one_vector<4, (x::(anonymous namespace)::Form)0>(x const&)>:
      10:\tmov    %rax,%rbx
      14:\tvpxor  %ymm0,%ymm0,%ymm0
      18:\t{vex} vpdpbusd %ymm1,%ymm2,%ymm3
      1c:\tvpmaddubsw (%rax),%ymm2,%ymm3
      20:\tadd    $0x20,%rax
      24:\tjl     18 <void x::one_vector+0x8>
      28:\tvpmaddubsw %ymm1,%ymm2,%ymm3
      2c:\tjl     28 <void x::one_vector+0x18>
      30:\tjne    14 <void x::one_vector+0x4>
      34:\tret

0000000000000038 <void x::(anonymous namespace)::one_vector<5, (x::Form)2>(x const&)>:
      38:\tvpmaddubsw %ymm1,%ymm2,%ymm3

0000000000000040 <x::other()>:
      40:\tvpdpbusd %zmm1,%zmm2,%zmm3
"""


def test_the_inner_loop_with_most_products_is_counted() -> None:
    functions = instructions._functions(LISTING)
    assert list(functions) == ["4", "5, signs apart"]
    assert instructions._of_loop(functions["4"]) == pytest.approx(4 / 64)


def test_what_cannot_be_counted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert instructions.count_instructions("portable") == ({}, "nothing is counted for portable")
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    assert instructions.count_instructions("avx2") == ({}, "objdump is missing")
