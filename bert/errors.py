"""Errors of the trainer; the message is one line: what, where, what to do.

TrainerError
├── CheckpointError     a checkpoint is damaged, or does not fit the model or the folder (also a ValueError)
├── NotFinite           the loss or the gradients are no numbers: training has diverged
├── PersistentOverflow     no loss scale fits the gradients
├── StepsDiffer         the device made more or fewer steps than the loop counts
└── RanksDiffer         the ranks' weights are no longer equal
"""

from __future__ import annotations


class TrainerError(RuntimeError):
    """Stop training with one line."""


class CheckpointError(TrainerError, ValueError):
    """Refuse a checkpoint."""


class NotFinite(TrainerError, ArithmeticError):
    """Report a loss or gradients that are nan or infinite."""


class PersistentOverflow(TrainerError, ArithmeticError):
    """Report that step after step overflows at whatever scale."""


class StepsDiffer(TrainerError):
    """Report a device that made more or fewer steps than the loop counts."""


class RanksDiffer(TrainerError):
    """Report ranks whose weights have come apart."""
