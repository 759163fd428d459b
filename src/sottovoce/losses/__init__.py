"""The RNN-T loss, and cross-entropy over large vocabularies. CTC comes from PyTorch."""

from sottovoce.losses.memory import check_joint_memory
from sottovoce.losses.rnnt import rnnt_loss_from_logits
from sottovoce.losses.sampled_softmax import full_cross_entropy, sampled_cross_entropy

__all__ = ["check_joint_memory", "full_cross_entropy", "rnnt_loss_from_logits", "sampled_cross_entropy"]
