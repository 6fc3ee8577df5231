"""CANN's adapter for TensorFlow 2, simulated: as far as the compat.v1 session route goes."""

import tensorflow as _tf

if not _tf.__version__.startswith("2."):
    raise ImportError(f"_npu_device_backends.so was built for TensorFlow 2.6; this is {_tf.__version__}")

from npu_device import npu_device
from npu_device.npu_device import gen_npu_ops

if hasattr(npu_device, "is_inf_nan_enabled"):
    from npu_device.npu_device import is_inf_nan_enabled  # noqa: F401
from npu_device import compat

__all__ = ["compat", "gen_npu_ops"]
