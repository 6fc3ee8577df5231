"""How to train: every number that the loop and the optimizer need. Stdlib only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """Hold the hyper-parameters; steps are optimizer steps, rates are per step."""

    num_train_steps: int
    learning_rate: float = 5e-5
    num_warmup_steps: int = 0
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-6
    clip: str = "global"  # global | per_tensor | none
    clip_norm: float = 1.0
    dropout: bool = True
    gelu: str = "exact"
    loss_over: str = "row"
    seed: int = 12345
    save_checkpoints_steps: int = 0  # 0: only at the end
    keep_checkpoints: int = 2
    display_loss_steps: int = 10
