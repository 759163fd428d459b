"""The RNN-T loss against enumerated alignments, finite differences, and a plain double loop."""

from itertools import combinations_with_replacement

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sottovoce.losses import rnnt, rnnt_loss_from_logits


def enumerated(logits: Tensor, targets: Tensor, frames: int, labels: int, blank: int = 0) -> Tensor:
    """One utterance, logits (T, U+1, V): minus the log of the sum over every alignment, one by one.

    An alignment is the frame of each label, in order: t_1 <= ... <= t_U. Frame t ends with a blank after all labels
    with t_i <= t.
    """
    log_probs = logits.log_softmax(-1)
    paths = []
    for emitted in combinations_with_replacement(range(frames), labels):
        steps = [log_probs[t, u, targets[u]] for u, t in enumerate(emitted)]
        steps += [log_probs[t, sum(e <= t for e in emitted), blank] for t in range(frames)]
        paths.append(torch.stack(steps).sum())
    return -torch.stack(paths).logsumexp(0)


def double_loop(
    logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int = 0
) -> Tensor:
    """Losses (N,) by one log-sum for each cell of each utterance."""
    log_probs = logits.log_softmax(-1)
    losses = []
    for n, (frames, labels) in enumerate(zip(logit_lengths.tolist(), target_lengths.tolist(), strict=True)):
        alpha = {(0, 0): logits.new_zeros(())}
        for t in range(frames):
            for u in range(labels + 1):
                reached = []
                if t:
                    reached.append(alpha[t - 1, u] + log_probs[n, t - 1, u, blank])
                if u:
                    reached.append(alpha[t, u - 1] + log_probs[n, t, u - 1, targets[n, u - 1]])
                if reached:
                    alpha[t, u] = torch.stack(reached).logsumexp(0)
        losses.append(-alpha[frames - 1, labels] - log_probs[n, frames - 1, labels, blank])
    return torch.stack(losses)


def batch(
    n: int, t: int, u: int, v: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random logits that require a gradient, targets without blank (0), ragged lengths."""
    generator = torch.Generator().manual_seed(seed)
    logits = (2 * torch.randn(n, t, u + 1, v, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
    targets = torch.randint(1, v, (n, u), generator=generator)
    logit_lengths = torch.randint(1, t + 1, (n,), generator=generator)
    target_lengths = torch.randint(0, u + 1, (n,), generator=generator)
    return logits, targets, logit_lengths, target_lengths


@pytest.mark.parametrize(("t", "u"), [(1, 0), (1, 3), (4, 0), (2, 2), (4, 3), (3, 5)])
@pytest.mark.parametrize("blank", [0, 2])
def test_equals_the_sum_over_enumerated_alignments(t: int, u: int, blank: int) -> None:
    logits, targets, _, _ = batch(2, t, u, 4, seed=10 * t + u)
    targets = torch.where(targets == blank, 0 if blank else 1, targets)
    frames, labels = torch.tensor([t, max(1, t - 1)]), torch.tensor([u, u // 2])
    expected = torch.stack([enumerated(logits[n], targets[n], int(frames[n]), int(labels[n]), blank) for n in (0, 1)])
    found = rnnt_loss_from_logits(logits, targets, frames, labels, blank=blank, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (wanted,) = torch.autograd.grad(expected.sum(), logits)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("t", "u"), [(3, 2), (1, 2), (3, 0)])
def test_gradient_equals_finite_differences(t: int, u: int) -> None:
    logits, *rest = batch(2, t, u, 3)
    assert torch.autograd.gradcheck(lambda x: rnnt_loss_from_logits(x, *rest, reduction="none"), logits)


@settings(max_examples=40)
@given(
    n=st.integers(1, 4), t=st.integers(1, 7), u=st.integers(0, 6), v=st.integers(2, 6), seed=st.integers(0, 2**31 - 1)
)
def test_equals_the_double_loop_on_ragged_batches(n: int, t: int, u: int, v: int, seed: int) -> None:
    logits, *rest = batch(n, t, u, v, seed)
    weights = torch.randn(n, dtype=torch.float64)  # of either sign: every utterance's gradient is scaled by its own
    found, expected = rnnt_loss_from_logits(logits, *rest, reduction="none"), double_loop(logits, *rest)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad((found * weights).sum(), logits)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-11)


def test_pieces_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, *rest = batch(3, 5, 4, 6)
    whole = rnnt_loss_from_logits(logits, *rest)
    (gradient,) = torch.autograd.grad(whole, logits)
    monkeypatch.setattr(rnnt, "_CPU_PIECE", 13)  # two cells of six at a time, and a rest
    loss = rnnt_loss_from_logits(logits, *rest)
    torch.testing.assert_close(loss, whole, rtol=0, atol=0)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], gradient, rtol=0, atol=0)


def test_reductions_and_evaluation_without_a_gradient() -> None:
    logits, *rest = batch(5, 6, 3, 4)
    losses = rnnt_loss_from_logits(logits, *rest, reduction="none")
    torch.testing.assert_close(rnnt_loss_from_logits(logits, *rest, reduction="sum"), losses.sum())
    torch.testing.assert_close(rnnt_loss_from_logits(logits, *rest), losses.mean())
    with torch.no_grad():
        torch.testing.assert_close(rnnt_loss_from_logits(logits, *rest, reduction="none"), losses.detach())


def test_padding_changes_nothing_and_has_no_gradient() -> None:
    logits, targets, frames, labels = batch(4, 6, 5, 5)
    losses = rnnt_loss_from_logits(logits, targets, frames, labels, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    for n, (t, u) in enumerate(zip(frames.tolist(), labels.tolist(), strict=True)):
        alone = logits[n : n + 1, :t, : u + 1].detach().requires_grad_()
        one = rnnt_loss_from_logits(alone, targets[n : n + 1, :u], frames[n : n + 1], labels[n : n + 1])
        one.backward()
        torch.testing.assert_close(one, losses[n], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(gradient[n, :t, : u + 1], alone.grad[0], rtol=1e-11, atol=1e-13)
        assert gradient[n, t:].count_nonzero() == 0
        assert gradient[n, :, u + 1 :].count_nonzero() == 0
        targets[n, u:] = -1  # a common padding id: ignored
    torch.testing.assert_close(rnnt_loss_from_logits(logits, targets, frames, labels, reduction="none"), losses)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_are_summed_in_float32(dtype: torch.dtype) -> None:
    logits, *rest = batch(3, 40, 12, 20, dtype=dtype)
    exact = logits.detach().double().requires_grad_()
    loss, expected = rnnt_loss_from_logits(logits, *rest), rnnt_loss_from_logits(exact, *rest)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    loss.backward()
    expected.backward()
    assert logits.grad.dtype == dtype
    # The logits are the same numbers, so all that may differ is the last rounding: half a unit of the short type,
    # and 1e-5 for the float32 sums (and float16's subnormals).
    bound = exact.grad.abs() * torch.finfo(dtype).eps / 2 + 1e-5
    assert ((logits.grad.double() - exact.grad).abs() <= bound).all()


def test_float32_stays_close_to_float64_at_a_training_size() -> None:
    logits, *rest = batch(2, 300, 60, 16, dtype=torch.float32)
    rest[1:] = [torch.tensor([300, 250]), torch.tensor([60, 31])]
    exact = logits.detach().double().requires_grad_()
    loss, expected = rnnt_loss_from_logits(logits, *rest), rnnt_loss_from_logits(exact, *rest)
    torch.testing.assert_close(loss.double(), expected, rtol=2e-7, atol=0)  # two units in the last place
    (gradient,), (wanted,) = torch.autograd.grad(loss, logits), torch.autograd.grad(expected, exact)
    torch.testing.assert_close(gradient.double(), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
def test_large_logits_are_stable(scale: float) -> None:
    logits, *rest = batch(2, 5, 4, 6)
    large = (logits.detach() * scale).float().requires_grad_()
    loss = rnnt_loss_from_logits(large, *rest)
    loss.backward()
    torch.testing.assert_close(loss.double(), double_loop(large.double(), *rest).mean(), rtol=1e-5, atol=1e-3)
    assert torch.isfinite(large.grad).all()
    if scale <= 1e4:  # beyond, the log-probabilities of a path are so large that float32 resolves 0.1 at best
        assert large.grad.abs().max() <= 0.5 + 0.01  # the mean of two utterances


def test_labels_that_cannot_occur_cost_infinity() -> None:
    logits, targets, frames, labels = batch(2, 9, 4, 5)
    labels.fill_(4)
    targets[1], targets[0] = 1, 2
    ruled_out = logits.detach().clone()
    ruled_out[..., 1] = -torch.inf
    losses = rnnt_loss_from_logits(ruled_out, targets, frames, labels, reduction="none")
    assert losses[1] == torch.inf
    torch.testing.assert_close(losses[:1], double_loop(ruled_out[:1], targets[:1], frames[:1], labels[:1]))


def test_adding_a_constant_to_a_cell_changes_nothing() -> None:
    logits, *rest = batch(2, 4, 3, 5, dtype=torch.float32)
    shift = 1e4 * torch.randint(-3, 4, (2, 4, 4, 1)).float()
    torch.testing.assert_close(
        rnnt_loss_from_logits((logits.double() + shift).float(), *rest),
        rnnt_loss_from_logits(logits, *rest),
        rtol=1e-3,  # float32 near 3e4 has steps of 0.002
        atol=1e-2,
    )


def test_a_layout_that_is_not_contiguous_gives_the_same() -> None:
    logits, *rest = batch(2, 4, 3, 5)
    turned = logits.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    loss = rnnt_loss_from_logits(logits, *rest)
    torch.testing.assert_close(rnnt_loss_from_logits(turned, *rest), loss)
    (gradient,) = torch.autograd.grad(rnnt_loss_from_logits(turned, *rest), turned)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, logits)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_overwriting_the_logits_gives_the_same_gradient_in_their_memory(dtype: torch.dtype) -> None:
    leaf, *rest = batch(3, 5, 4, 6, dtype=dtype)
    (expected,) = torch.autograd.grad(rnnt_loss_from_logits(leaf, *rest), leaf)
    logits = leaf * 1
    (gradient,) = torch.autograd.grad(rnnt_loss_from_logits(logits, *rest, overwrite_logits=True), logits)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
    assert gradient.data_ptr() == logits.data_ptr()


def test_overwritten_logits_cannot_be_used_unnoticed() -> None:
    leaf, *rest = batch(2, 3, 2, 4)
    with pytest.raises(ValueError, match=r"^overwrite_logits: the logits are a leaf"):
        rnnt_loss_from_logits(leaf, *rest, overwrite_logits=True)
    loss = rnnt_loss_from_logits(leaf * 1, *rest, overwrite_logits=True)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rnnt_loss_from_logits(leaf.tanh(), *rest, overwrite_logits=True).backward()  # tanh needs its own output
