"""What `from .npu_init import *` gives, as far as the session route goes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from hccl.manage.api import (  # noqa: F401
    create_group,
    destroy_group,
    get_group_rank_from_world_rank,
    get_local_rank_id,
    get_local_rank_size,
    get_rank_id,
    get_rank_size,
    get_world_rank_from_group_rank,
)
from hccl.split.api import set_split_strategy_by_idx, set_split_strategy_by_size  # noqa: F401
from npu_simulator.names import has
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig  # noqa: F401

from .estimator import npu_ops  # noqa: F401
from .estimator.npu import npu_config, util  # noqa: F401
from .estimator.npu_unary_ops import npu_unary_ops  # noqa: F401
from .hccl import hccl_ops  # noqa: F401

if tf.__version__.startswith("1."):  # made of contrib, which TensorFlow 2 has not
    from .estimator.npu.npu_loss_scale_manager import (  # noqa: F401
        ExponentialUpdateLossScaleManager,
        FixedLossScaleManager,
    )
if has("values", "npu_bridge.npu_init:npu_plugin"):
    from .estimator.npu import npu_plugin  # noqa: F401
if has("behaviour", "session_init_is_wrapped"):
    npu_config.install()


def __getattr__(name: str) -> Any:
    raise AttributeError(f"{name}: not simulated; the session route does not need it")
