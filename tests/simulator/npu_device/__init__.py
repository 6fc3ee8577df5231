"""CANN's adapter for TensorFlow 2, simulated: as far as the compat.v1 session route goes."""

import tensorflow as _tf

if not _tf.__version__.startswith("2."):
    raise ImportError("_npu_device_backends.so was built for TensorFlow 2.6; this is %s" % _tf.__version__)

from npu_simulator.ops import FloatStatus as _FloatStatus

from npu_device import compat

__version__ = "2.6.5+simulator"
gen_npu_ops = _FloatStatus()


def is_inf_nan_enabled() -> bool:
    import os

    return os.environ.get("NPU_SIMULATOR_INF_NAN") == "1"


__all__ = ["compat", "gen_npu_ops", "is_inf_nan_enabled"]
