"""The same results on an accelerator; skipped, saying so, without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sottovoce as sv
from sottovoce.losses import rnnt_loss_from_logits
from sottovoce.models import Rnnt
from sottovoce.packed import PackedMatrix, RnntArchitecture
from sottovoce.quant import BandSpec, BitPlan, make_codebook
from sottovoce.quant.codebook_linear import takes
from sottovoce.quant.lloyd_max import lloyd_max
from sottovoce.quant.packed_modules import PackedLinear, PackedWeight

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SMALL = RnntArchitecture(
    features=8, vocabulary=16, encoder_units=32, embedding=8, predictor_units=24, joiner_units=24, stack=3
)


def batch(device: str) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    features = torch.randn(4, 80, 8, generator=g)
    tokens = torch.randint(1, 16, (4, 6), generator=g)
    lengths, token_lengths = torch.tensor([80, 60, 71, 44]), torch.tensor([6, 2, 0, 5])
    return tuple(x.to(device) for x in (features, lengths, tokens, token_lengths))


def loss_of(model: Rnnt, device: str) -> torch.Tensor:
    features, lengths, tokens, token_lengths = batch(device)
    logits, _, frames = model(features, lengths, tokens)
    return rnnt_loss_from_logits(logits, tokens, frames, token_lengths)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_loss_and_its_gradient_agree_with_the_cpu(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 20, 7, 40, generator=g).to(dtype)
    targets = torch.randint(1, 40, (3, 6), generator=g)
    frames, labels = torch.tensor([20, 1, 13]), torch.tensor([6, 0, 4])
    found = {}
    for device in ("cpu", "cuda"):
        x = logits.detach().to(device).requires_grad_()
        loss = rnnt_loss_from_logits(x, targets.to(device), frames.to(device), labels.to(device))
        loss.backward()
        assert x.grad is not None
        found[device] = (loss.detach().cpu(), x.grad.cpu())
    tolerance = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 2e-2}[dtype]
    for a, b in zip(found["cpu"], found["cuda"], strict=True):
        assert torch.allclose(a.double(), b.double(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", ["lloyd-max", "regions", "uniform", "mu-law", "mu-law-scaled"])
def test_codebooks_agree_with_the_cpu(kind: str) -> None:
    weight = torch.randn(64, 200, generator=torch.Generator().manual_seed(2)) * 0.1
    for bits in (2, 4, 8):
        spec = BandSpec(bits, kind)
        cpu, cuda = make_codebook(weight, spec), make_codebook(weight.cuda(), spec)
        assert torch.equal(cpu.levels, cuda.levels.cpu()) and torch.allclose(cpu.scale, cuda.scale.cpu(), rtol=1e-3)
        same = type(cpu)(cpu.levels.cuda(), cpu.scale.cuda(), bits, kind, "tensor")
        assert torch.equal(cpu.assign(weight), same.assign(weight.cuda()).cpu())
        assert torch.allclose(cpu.pull_(weight.clone(), 0.1), same.pull_(weight.cuda(), 0.1).cpu(), atol=1e-6)
        assert torch.allclose(cpu.mix_(weight.clone(), 50.0), same.mix_(weight.cuda(), 50.0).cpu(), atol=1e-6)
        assert float(cpu.penalty(weight)[0]) == pytest.approx(float(same.penalty(weight.cuda())[0]), rel=1e-4)
    levels = lloyd_max(weight, 16)
    assert torch.allclose(levels, lloyd_max(weight.cuda(), 16).cpu(), atol=1e-6)


@pytest.mark.parametrize(
    "scheme", [sv.S8BQAT(start=0.2, period=5), sv.StraightThrough(), sv.S8BQAT.published(), sv.GQ()]
)
@pytest.mark.parametrize("autocast", [False, True])
def test_a_cudnn_recognizer_is_compressed_and_packed(scheme: object, autocast: bool) -> None:
    torch.manual_seed(0)
    model = Rnnt(SMALL).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    session = sv.compress(model, BitPlan.uniform(model, bits=4), scheme, optimizer=optimizer, total_steps=20)  # type: ignore[arg-type]
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            loss = loss_of(model, "cuda") + session.penalty()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    packed = session.finish()
    assert losses[-1] < losses[0]
    for name, value in model.state_dict().items():
        assert np.array_equal(packed.decode(name), value.cpu().numpy()), name
    weight = model.encoder.layers[0].weight_hh_l0
    assert len(weight.unique()) <= 16


def test_a_grad_scaler_on_the_device() -> None:
    model = Rnnt(SMALL).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    session = sv.compress(
        model, BitPlan.uniform(model, bits=4), sv.StraightThrough(), optimizer=optimizer, total_steps=8
    )
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40, growth_interval=1000)
    for _ in range(8):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = loss_of(model, "cuda")
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert session.step < 8  # the first scales overflow, and skipped steps count for nothing


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_triton_kernel_agrees_with_decoded_weights(bits: int, dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    weight = torch.randn(70, 333, generator=torch.Generator().manual_seed(bits))
    layer = torch.nn.Linear(333, 70)
    layer.weight.data.copy_(weight)
    session = sv.compress(layer, BitPlan.uniform(layer, bits=bits, grouping="row"), sv.PTQ())
    matrix = session.finish().tensors["weight"]
    assert isinstance(matrix, PackedMatrix)
    packed = PackedLinear(layer, PackedWeight(matrix)).cuda()
    for count in (1, 5, 16, 17):  # the last is too many for the kernel
        x = torch.randn(count, 333, generator=torch.Generator().manual_seed(count)).cuda().to(dtype)
        expected = x.double().cpu() @ torch.from_numpy(matrix.decode()).double().T + layer.bias.detach().double().cpu()
        with torch.no_grad():
            assert takes(x) == (count <= 16)
            found = packed(x)
            compiled = torch.compile(packed, fullgraph=True)(x)
        tolerance = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]
        assert found.dtype is dtype
        assert torch.allclose(
            found.double().cpu(), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
        )
        assert torch.allclose(compiled.double(), found.double(), rtol=tolerance, atol=tolerance)
