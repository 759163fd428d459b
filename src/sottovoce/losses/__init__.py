"""The RNN-T loss, cross-entropy over large vocabularies, and distillation from a float model. CTC comes from PyTorch."""

from sottovoce.losses.distillation import Teacher, distillation
from sottovoce.losses.memory import check_joint_memory
from sottovoce.losses.rnnt import rnnt_loss_from_logits
from sottovoce.losses.sampled_softmax import full_cross_entropy, sampled_cross_entropy

__all__ = [
    "Teacher",
    "check_joint_memory",
    "distillation",
    "full_cross_entropy",
    "rnnt_loss_from_logits",
    "sampled_cross_entropy",
]
