"""The settings of a training: every number that the loop and the optimizer need. Stdlib only."""

from __future__ import annotations

import math
from dataclasses import dataclass

HIGHEST_SCALE = 3.4e38  # of a loss: just below the largest float32; the limit of npu_bridge's manager


@dataclass(frozen=True)
class TrainConfig:
    """The hyper-parameters; steps are optimizer steps, rates are per step."""

    num_train_steps: int
    learning_rate: float = 5e-5  # peak of the schedule, before lr_scaling
    lr_scaling: str = "none"  # none | linear | sqrt: how the peak grows with the ranks
    num_warmup_steps: int = 0
    decay_steps: int = 0  # at which the rate reaches 0, and stays there; 0: num_train_steps
    peak: str = "plain"  # plain | raised: see bert.optimizer.learning_rate
    decay_power: float = 1.0  # of the polynomial decay
    optimizer_type: str = "adam"  # adam | adamw | lamb
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-6
    clip: str = "global"  # global | per_tensor | none
    clip_norm: float = 1.0
    embedding_norm: str = "token"  # token | word: see bert.step
    num_accumulation_steps: int = 1  # batches per step
    npu_bert_loss_scale: float = -1.0  # below 0 off, 0 dynamic, 1 or more static
    init_loss_scale_value: float = 2.0**32
    loss_scale_good_steps: int = 1000  # without overflow, in a row: the scale doubles
    loss_scale_bad_steps: int = 2  # with overflow: it halves
    dropout: bool = True
    gelu: str = "exact"
    gradient_checkpointing: bool = False
    freeze_embeddings: bool = False  # bert/embeddings keep their loaded values, and have no slots
    amp: bool | None = None
    softmax_over: str = "row"  # row | tokens: see bert.model.span_loss
    seed: int = 12345
    rows_per_step: int = 0  # over all ranks; a resume by another number of ranks needs it and steps_per_epoch
    steps_per_epoch: int = 0  # 0: unknown, epochs are not shown
    save_checkpoints_steps: int = 0  # 0: only at the end
    keep_checkpoints: int = 2
    display_loss_steps: int = 10
    eval_steps: int = 0  # between two evaluations; 0: none
    keep_best: str = ""  # figure whose best checkpoint is kept beside the newest ones; "": none is
    early_stopping_patience: int = 0  # evaluations in a row, none of them better, that end it; 0: off

    @property
    def judged_by(self) -> str:
        """The figure that tells which evaluation is better."""
        return self.keep_best or "f1"

    def peak_rate(self, ranks: int) -> float:
        """Compute the peak learning rate of a job of so many ranks. ValueError: unknown lr_scaling."""
        factors = {"none": 1.0, "linear": float(ranks), "sqrt": math.sqrt(ranks)}
        if self.lr_scaling not in factors:
            raise ValueError(f"lr_scaling {self.lr_scaling!r} is none of {', '.join(factors)}")
        return self.learning_rate * factors[self.lr_scaling]
