"""The RNN-T loss, cross-entropy over large vocabularies, distillation. CTC comes from PyTorch."""

from sottovoce.losses.distillation import Teacher, distillation, taught_cross_entropy
from sottovoce.losses.memory import check_joint_memory
from sottovoce.losses.rnnt import cell_posteriors, rnnt_loss_from_logits
from sottovoce.losses.sampled_softmax import WordSample, full_cross_entropy, sample_words, sampled_cross_entropy
from sottovoce.losses.second_order import twice_differentiable_rnnt_loss

__all__ = [
    "Teacher",
    "WordSample",
    "cell_posteriors",
    "check_joint_memory",
    "distillation",
    "full_cross_entropy",
    "rnnt_loss_from_logits",
    "sample_words",
    "sampled_cross_entropy",
    "taught_cross_entropy",
    "twice_differentiable_rnnt_loss",
]
