"""State of the device: 910A saturates, A2 gives inf and nan (NPU_SIMULATOR_INF_NAN=1)."""

import os


def is_inf_nan_enabled() -> bool:
    return os.environ.get("NPU_SIMULATOR_INF_NAN") == "1"
