"""CANN's adapter for TensorFlow 1.15, simulated."""

import tensorflow as _tf

if not _tf.__version__.startswith("1.15"):
    raise ImportError("_tf_adapter.so was built for TensorFlow 1.15; this is %s" % _tf.__version__)

__version__ = "1.15.0+simulator"
