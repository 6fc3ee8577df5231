"""Errors of the trainer; the message is one line: where, what is wrong, what to do.

TrainerError
├── CheckpointError     a checkpoint is damaged, or does not fit the model or the folder (also a ValueError)
├── NotFinite           the loss or the gradients are nan or infinite: training has diverged
├── PersistentOverflow  the gradients overflow at every loss scale
├── StepsDiffer         the device made more or fewer steps than the loop counts
└── RanksDiffer         the ranks' weights are no longer equal
"""

from __future__ import annotations


class TrainerError(RuntimeError):
    """Training cannot go on; the message is one line."""


class CheckpointError(TrainerError, ValueError):
    """A checkpoint is damaged, or does not fit."""


class NotFinite(TrainerError, ArithmeticError):
    """The loss or the gradients are nan or infinite."""


class PersistentOverflow(TrainerError, ArithmeticError):
    """The gradients overflow step after step, at every loss scale."""


class StepsDiffer(TrainerError):
    """The device made more or fewer steps than the loop counts."""


class RanksDiffer(TrainerError):
    """The ranks' weights are no longer equal."""
