"""The library of operations, and the way back to sessions."""

from __future__ import annotations

import tensorflow.compat.v1 as tf
from npu_simulator import loading, plugin
from npu_simulator.names import has

gen_npu_ops = loading.operations()


def enable_v1() -> None:
    """Let sessions with the NpuOptimizer run on the device; TensorFlow 2's ways end for the whole process."""
    tf.disable_v2_behavior()
    loading.adapter()


if has("functions", "npu_device.npu_device:is_inf_nan_enabled"):

    def is_inf_nan_enabled() -> bool:
        return plugin.device_sat_mode() == plugin.INF_NAN
