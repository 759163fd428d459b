"""A joint that would not fit is refused before it is allocated."""

from pathlib import Path

import pytest
import torch

from sottovoce.errors import ConfigError
from sottovoce.losses import check_joint_memory, memory


def test_the_limit_is_exact() -> None:
    needed = 2 * 3 * 10 * (4 + 1) * 7 * 4  # logits and gradient, N x T x (U + 1) x V, four bytes each
    check_joint_memory(3, 10, 4, 7, torch.float32, limit_bytes=needed)
    check_joint_memory(3, 10, 4, 7, torch.bfloat16, limit_bytes=needed // 2)
    with pytest.raises(ConfigError, match="3 utterances x 10 frames x 5 label positions x 7 tokens"):
        check_joint_memory(3, 10, 4, 7, torch.float32, limit_bytes=needed - 1)


def test_the_message_names_sizes_limit_and_way_out_in_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        check_joint_memory(64, 1000, 199, 5000, torch.float32, limit_bytes=8 << 30)
    # 2 * 64 * 1000 * 200 * 5000 * 4 bytes = 476.84 GiB
    assert "needs 476.84 GiB, expected at most 8.00 GiB" in str(caught.value)
    assert "smaller batch" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_by_default_the_limit_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.available_bytes(torch.device("cpu")) > 0
    with pytest.raises(ConfigError, match=r"expected at most 0\.25 GiB"):
        monkeypatch.setattr(memory, "available_bytes", lambda device: 1 << 28)
        check_joint_memory(16, 500, 99, 500, torch.float32)


def test_a_small_joint_asks_nothing_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: pytest.fail("asked"))
    check_joint_memory(8, 50, 20, 30, torch.float32)


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    for name, text in {"max": "1000\n", "current": "700\n", "stat": "anon 500\ninactive_file 150\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory._cgroup_bytes(tmp_path) == 1000 - 700 + 150
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._cgroup_bytes(tmp_path) > 1 << 60
    assert memory._cgroup_bytes(tmp_path / "absent") > 1 << 60


def test_a_system_without_meminfo_gives_physical_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    physical = memory._system_bytes()
    assert physical > 1 << 28
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable:    12 kB\n")
    assert memory._system_bytes() == 12 << 10
