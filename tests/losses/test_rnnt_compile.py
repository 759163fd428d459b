"""The RNN-T loss as a PyTorch operator: its registration, and inside a compiled model."""

import pytest
import torch
from torch import Tensor, nn

from sottovoce.losses import rnnt_loss_from_logits


class Joiner(nn.Module):
    """Additive joiner with the loss inside: encoder (N, T, J), predictor (N, U+1, J) to a scalar."""

    def __init__(self, overwrite: bool) -> None:
        super().__init__()
        self.output = nn.Linear(6, 5)
        self.overwrite = overwrite

    def forward(self, encoder: Tensor, predictor: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
        logits = self.output(torch.tanh(encoder[:, :, None] + predictor[:, None]))
        return rnnt_loss_from_logits(logits, targets, frames, labels, overwrite_logits=self.overwrite)


def inputs(t: int = 7) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(t)
    return (
        torch.randn(2, t, 6, generator=generator),
        torch.randn(2, 4, 6, generator=generator),
        torch.tensor([[1, 2, 3], [4, 1, 0]]),
        torch.tensor([t, t - 1]),
        torch.tensor([3, 2]),
    )


def gradients(call: object, model: Joiner, batch: tuple[Tensor, ...]) -> list[Tensor]:
    model.zero_grad()
    loss = call(*batch)  # type: ignore[operator]
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("posteriors", [True, False])
def test_the_operator_is_registered_as_pytorch_requires(posteriors: bool) -> None:
    logits = torch.randn(2, 7, 4, 5, requires_grad=posteriors)
    _, _, targets, frames, labels = inputs()
    torch.library.opcheck(
        torch.ops.sottovoce.rnnt_losses.default, (logits, targets, frames, labels, 0, posteriors, False)
    )


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_compiled_model_trains_alike(fullgraph: bool, overwrite: bool) -> None:
    torch.manual_seed(0)
    model = Joiner(overwrite)
    # The graph and its derivative are made as for any backend; generating C++ would only cost the test time.
    compiled = torch.compile(model, fullgraph=fullgraph, backend="aot_eager")
    for t in (7, 9, 12):  # new lengths must not need new code each
        torch.testing.assert_close(gradients(compiled, model, inputs(t)), gradients(model, model, inputs(t)))


def test_autocast_keeps_float32_sums() -> None:
    torch.manual_seed(0)
    model = Joiner(overwrite=False)
    expected = gradients(model, model, inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(model, model, inputs())
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
