"""CANN's adapter for TensorFlow 1.15, simulated: the Python side, over the stand-ins of npu_simulator."""

import tensorflow as _tf

if not _tf.__version__.startswith("1.15"):
    raise ImportError(f"_tf_adapter.so was built for TensorFlow 1.15; this is {_tf.__version__}")
