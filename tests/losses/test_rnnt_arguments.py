"""What the RNN-T loss refuses, and what it does with values that it cannot read without waiting."""

from typing import Any

import pytest
import torch

from sottovoce.losses import rnnt, rnnt_loss_from_logits


def arguments(**changes: Any) -> dict[str, Any]:
    """A good call for N = 2, T = 4, U = 3, V = 5, with changes."""
    good = {
        "logits": torch.randn(2, 4, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_(),
        "targets": torch.tensor([[1, 2, 3], [4, 4, 0]]),
        "logit_lengths": torch.tensor([4, 3]),
        "target_lengths": torch.tensor([3, 2]),
    }
    return good | changes


def test_the_good_call_is_good() -> None:
    assert torch.isfinite(rnnt_loss_from_logits(**arguments()))
    assert torch.isfinite(rnnt_loss_from_logits(**arguments(logit_lengths=torch.tensor([4, 3], dtype=torch.int32))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": torch.zeros(4, 4, 5)}, r"logits: expected \(N, T, U\+1, V\), none of them 0, found \(4, 4, 5\)"),
        ({"logits": torch.zeros(2, 0, 4, 5)}, r"logits: expected .* found \(2, 0, 4, 5\)"),
        ({"logits": torch.zeros(2, 4, 4, 5, dtype=torch.int32)}, r"logits: expected float32.* found torch.int32"),
        ({"targets": torch.ones(2, 4, dtype=torch.int64)}, r"targets: expected shape \(2, 3\).* found \(2, 4\)"),
        ({"targets": torch.ones(2, 3)}, r"targets: expected int64 or int32, found torch.float32"),
        ({"logit_lengths": torch.tensor([4])}, r"logit_lengths: expected shape \(2,\).* found \(1,\)"),
        ({"logit_lengths": torch.tensor([4, 5])}, r"logit_lengths: utterance 1: expected 1\.\.4, found 5"),
        ({"logit_lengths": torch.tensor([0, 4])}, r"logit_lengths: utterance 0: expected 1\.\.4, found 0"),
        ({"target_lengths": torch.tensor([4, 2])}, r"target_lengths: utterance 0: expected 0\.\.3, found 4"),
        ({"target_lengths": torch.tensor([-1, 2])}, r"target_lengths: utterance 0: expected 0\.\.3, found -1"),
        ({"target_lengths": torch.tensor([3, 3])}, r"targets: utterance 1, label 2: .* found blank \(0\)"),
        ({"targets": torch.tensor([[1, 5, 3], [4, 4, 0]])}, r"targets: utterance 0, label 1: .*0\.\.4, found 5"),
        ({"targets": torch.tensor([[-2, 1, 3], [4, 4, 0]])}, r"targets: utterance 0, label 0: .* found -2"),
        ({"blank": 3}, r"targets: utterance 0, label 2: expected an id in 0\.\.4, found blank \(3\)"),
        ({"blank": 5}, r"blank: expected an id in 0\.\.4, found 5"),
        ({"blank": -1}, r"blank: expected an id in 0\.\.4, found -1"),
        ({"reduction": "average"}, r"reduction: expected one of mean, sum, none, found 'average'"),
    ],
)
def test_bad_arguments_are_refused_with_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$") as caught:
        rnnt_loss_from_logits(**arguments(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"logit_lengths": torch.tensor([4, 9])},
        {"logit_lengths": torch.tensor([4, 0])},
        {"target_lengths": torch.tensor([3, 7])},
        {"target_lengths": torch.tensor([3, -1])},
        {"targets": torch.tensor([[1, 2, 3], [4, 17, 0]])},
        {"targets": torch.tensor([[1, 2, 3], [0, 1, 0]])},
    ],
)
def test_unread_bad_values_give_nan_for_their_utterance_alone(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = arguments()
    expected = rnnt_loss_from_logits(**good, reduction="none")[0]
    (wanted,) = torch.autograd.grad(expected, good["logits"])
    monkeypatch.setattr(rnnt, "on_host", lambda *_: False)  # as if they lay on an accelerator
    bad = arguments(**changes)
    losses = rnnt_loss_from_logits(**bad, reduction="none")
    torch.testing.assert_close(losses[0], expected)
    assert losses[1].isnan()
    (gradient,) = torch.autograd.grad(losses.sum(), bad["logits"])
    torch.testing.assert_close(gradient[0], wanted[0])
    assert gradient[1].isnan().all()
    with torch.no_grad():
        assert rnnt_loss_from_logits(**bad, reduction="none")[1].isnan()
