"""Layers that hold codes compute what decoded ones do, in less memory, compiled or not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sottovoce as sv
from sottovoce.errors import FormatError
from sottovoce.packed import PackedMatrix, make_band, pack_codes
from sottovoce.quant import BitPlan
from sottovoce.quant.codebook_linear import codebook_linear
from sottovoce.quant.packed_modules import PackedEmbedding, PackedLinear, PackedWeight, unpack


def matrix(bits: int, rows: int, columns: int, seed: int, cut: int = 0) -> PackedMatrix:
    """Random codes in one band, or in two with another width from row ``cut`` on."""
    rng = np.random.default_rng(seed)
    bands = []
    for start, stop, width in ((0, cut, 9 - bits), (cut, rows, bits)):
        if stop > start:
            count = int(rng.integers(1, (1 << width) + 1))
            levels = np.sort(rng.permutation(np.arange(-128, 128))[:count]).astype(np.int8)
            codes = rng.integers(0, count, (stop - start, columns), dtype=np.uint8)
            scale = rng.uniform(0.001, 1, stop - start).astype(np.float16)
            bands.append(make_band(codes, levels, scale, width, "any", "row", start))
    return PackedMatrix((rows, columns), tuple(bands))


@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 30), st.integers(0, 5), st.integers(0, 2**31))
@settings(max_examples=60)
def test_decoding_has_the_files_bits(bits: int, rows: int, columns: int, cut: int, seed: int) -> None:
    packed = matrix(bits, rows, columns, seed, min(cut, rows - 1))
    weight = PackedWeight(packed)
    assert np.array_equal(weight.decode().numpy(), packed.decode())
    index = torch.randint(0, rows, (2, 3), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(weight.rows(index), weight.decode()[index])


@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=60)
def test_unpacking_undoes_packing(bits: int, columns: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (3, columns), dtype=np.uint8)
    stored = np.zeros((3, -(-columns // 8) * bits), np.uint8)
    packed = pack_codes(codes, bits)
    stored[:, : packed.shape[1]] = packed
    assert np.array_equal(unpack(torch.from_numpy(stored), columns, bits).numpy(), codes)


class Net(nn.Module):
    """A tied vocabulary, attention, a convolution, and a layer of somebody's own. No recurrent layer: Dynamo compiles
    none whole."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.conv = nn.Conv1d(32, 32, 3, padding=1, groups=32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.own = Doubling(32, 32)
        self.norm = nn.LayerNorm(32)
        self.output = nn.Linear(32, 50)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 (N, T) -> (N, T, 50)."""
        x = self.embedding(tokens)
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.output(self.own(x))


class Doubling(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    model = Net().eval()
    plan = BitPlan.uniform(model, bits=4).split_rows("embedding.weight", 20, (8, 2))
    path = tmp_path_factory.mktemp("packed") / "model.safetensors"
    sv.compress(model, plan, sv.PTQ()).finish().save(path)
    return path, model


def looking_up(path: Path) -> nn.Module:
    model = Net().eval()
    sv.load(path, into=model, packed=True)
    return model


TOKENS = torch.arange(24).view(2, 12) * 2


@torch.no_grad()
def test_packed_layers_compute_the_same_in_less_memory(saved: tuple[Path, nn.Module]) -> None:
    path, model = saved
    packed = looking_up(path)
    assert torch.allclose(packed(TOKENS), model(TOKENS), rtol=1e-5, atol=1e-6)
    assert isinstance(packed.embedding, PackedEmbedding) and isinstance(packed.output, PackedLinear)
    assert packed.output.packed is packed.embedding.packed  # tied: one copy of the codes
    assert isinstance(packed.own, Doubling)  # a forward of its own is kept, with decoded weights
    assert torch.equal(packed.own.weight, model.own.weight)
    assert torch.equal(packed.output.weight, model.output.weight)
    held = sum(buffer.nbytes for buffer in packed.output.packed.buffers())
    weights = 20 * 32 + 30 * 32 / 4  # bytes of codes: 8 bits, then 2
    assert weights <= held <= weights + 256 + 4 + 4 * 50  # and two tables, and a scale a row
    names = {name for name, _ in packed.named_parameters()}
    assert not {"embedding.weight", "output.weight"} & names and "output.bias" in names


@torch.no_grad()
def test_a_layer_with_hooks_keeps_them(saved: tuple[Path, nn.Module]) -> None:
    path, model = saved
    hooked, calls = Net().eval(), []
    hooked.output.register_forward_hook(lambda module, arguments, result: calls.append(result.shape))
    sv.load(path, into=hooked, packed=True)
    assert isinstance(hooked.output, nn.Linear) and isinstance(hooked.embedding, PackedEmbedding)
    assert torch.allclose(hooked(TOKENS), model(TOKENS), rtol=1e-5, atol=1e-6) and len(calls) == 1


@pytest.mark.parametrize(
    "hook",
    [
        lambda layer: layer.register_forward_hook(lambda *_: None),
        lambda layer: layer.register_forward_pre_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_pre_hook(lambda *_: None),
        lambda layer: setattr(layer, "forward", layer.forward),
    ],
)
def test_a_layer_with_a_hook_of_any_kind_stays(
    saved: tuple[Path, nn.Module], hook: Callable[[nn.Module], object]
) -> None:
    hooked = Net()
    hook(hooked.output)
    kept = hooked.output
    sv.load(saved[0], into=hooked, packed=True)
    assert hooked.output is kept and isinstance(hooked.embedding, PackedEmbedding)


@torch.no_grad()
@pytest.mark.parametrize("packed", [False, True])
def test_a_loaded_model_compiles_whole(saved: tuple[Path, nn.Module], packed: bool) -> None:
    path, model = saved
    loaded = Net().eval()
    sv.load(path, into=loaded, packed=packed)
    compiled = torch.compile(loaded, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_compiled_module_takes_another_file(saved: tuple[Path, nn.Module]) -> None:
    path, model = saved
    loaded = Net().eval()
    compiled = torch.compile(loaded, backend="aot_eager", fullgraph=True)
    before = compiled(TOKENS)
    sv.load(path, into=loaded)
    assert not torch.allclose(before, compiled(TOKENS))
    assert torch.allclose(compiled(TOKENS), model(TOKENS), rtol=1e-4, atol=1e-4)


def test_inputs_have_gradients_and_state_travels(saved: tuple[Path, nn.Module]) -> None:
    path, model = saved
    layer = looking_up(path).output
    x = torch.randn(3, 32, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, model.output.weight.sum(0).expand(3, -1), atol=1e-5)
    half = looking_up(path).to(torch.bfloat16).output
    assert half(x.detach().bfloat16()).dtype is torch.bfloat16
    twin = looking_up(path)
    twin.load_state_dict(looking_up(path).state_dict())
    assert torch.equal(twin.embedding.weight, model.embedding.weight)


@torch.no_grad()
def test_empty_batches_and_rows_that_are_not_there(saved: tuple[Path, nn.Module]) -> None:
    packed = looking_up(saved[0])
    for shape in ((0,), (2, 0)):
        rows = packed.embedding(torch.zeros(shape, dtype=torch.int64))
        assert rows.shape == (*shape, 32) and packed.output(rows).shape == (*shape, 50)
    one_band = PackedWeight(matrix(3, 5, 4, 0))
    for weight, count in ((packed.embedding.packed, 50), (one_band, 5)):
        for row in (-1, count):
            with pytest.raises(IndexError):
                weight.rows(torch.tensor([row]))


def test_a_module_without_memory_is_refused(saved: tuple[Path, nn.Module]) -> None:
    with torch.device("meta"):
        model = Net()
    with pytest.raises(FormatError, match=r"'embedding\.weight': the module's is on the meta device"):
        sv.load(saved[0], into=model)


def test_integers_come_back_exactly(tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self, start: int) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.register_buffer("steps", torch.tensor([start, 3]))
            self.register_buffer("mask", torch.tensor([True, False]))

    path = tmp_path / "model.safetensors"
    model, twin = Counting(2**40 + 1), Counting(0)
    sv.compress(model, BitPlan.uniform(model, bits=3), sv.PTQ()).finish().save(path)
    sv.load(path, into=twin)
    assert torch.equal(twin.steps, model.steps) and twin.mask.tolist() == [True, False]


def test_the_kernels_operator_has_a_shape_without_running() -> None:
    with torch.device("meta"):
        x, codes = torch.empty(3, 10), torch.empty(7, 6, dtype=torch.uint8)
        y = codebook_linear(x, codes, torch.empty(8, dtype=torch.int8), torch.empty(7), 3)
    assert y.shape == (3, 7) and y.dtype is x.dtype


def test_the_triton_kernel_in_its_interpreter() -> None:
    pytest.importorskip("triton", reason="needs triton, which runs the kernel without a GPU")
    script = Path(__file__).with_name("interpret_triton.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
