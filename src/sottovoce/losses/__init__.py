"""The RNN-T loss. CTC comes from PyTorch."""

from sottovoce.losses.memory import check_joint_memory
from sottovoce.losses.rnnt import rnnt_loss_from_logits

__all__ = ["check_joint_memory", "rnnt_loss_from_logits"]
