"""The loss scale managers of TensorFlow 1.15's contrib, under the adapter's names and defaults."""

from __future__ import annotations

from typing import Any

from npu_simulator.refusals import refused
from tensorflow.contrib.mixed_precision import ExponentialUpdateLossScaleManager as _Exponential
from tensorflow.contrib.mixed_precision import FixedLossScaleManager as _Fixed


class FixedLossScaleManager(_Fixed):
    def __init__(self, loss_scale: float, enable_overflow_check: bool = True) -> None:
        if loss_scale < 1:
            raise refused("loss_scale_below_one", f"loss scale {loss_scale}", ValueError)
        super().__init__(loss_scale)
        self._enable_overflow_check = enable_overflow_check

    def get_enable_overflow_check(self) -> bool:
        return self._enable_overflow_check


class ExponentialUpdateLossScaleManager(_Exponential):
    def __init__(
        self,
        init_loss_scale: float,
        incr_every_n_steps: int,
        decr_every_n_nan_or_inf: int = 2,
        incr_ratio: float = 2,
        decr_ratio: float = 0.8,
    ) -> None:
        super().__init__(init_loss_scale, incr_every_n_steps, decr_every_n_nan_or_inf, incr_ratio, decr_ratio)

    def update_loss_scale(self, finite_grads: Any) -> Any:
        return super().update_loss_scale(finite_grads)
