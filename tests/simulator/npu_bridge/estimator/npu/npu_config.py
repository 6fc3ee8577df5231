"""What the adapter changes in every tf.Session: it runs on the device, whether it says so or not."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable

import tensorflow.compat.v1 as tf
from npu_simulator.names import has
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig


def set_npu_default_config(func: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Complete the `config` of a call of Session.__init__, which may be given by place or by name."""
    place = list(inspect.signature(func).parameters).index("config") - 1  # without self
    given = kwargs.get("config")
    if given is None and len(args) > place:
        given = args[place]
    given = tf.ConfigProto() if given is None else given
    rewrite = given.graph_options.rewrite_options
    if not any(optimizer.name == "NpuOptimizer" for optimizer in rewrite.custom_optimizers):
        rewrite.custom_optimizers.add().name = "NpuOptimizer"
        rewrite.memory_optimization = RewriterConfig.OFF
    rewrite.remapping = RewriterConfig.OFF
    given.allow_soft_placement, given.log_device_placement = True, False
    given.graph_options.optimizer_options.global_jit_level = config_pb2.OptimizerOptions.OFF
    return args[:place] + args[place + 1 :], {**kwargs, "config": given}


def decorator_tf_session(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given, named = set_npu_default_config(func, args, kwargs)
        func(self, *given, **named)

    return init


def install() -> None:
    """Wrap the constructors of sessions, once."""
    for kind in (tf.Session, tf.InteractiveSession):
        if not hasattr(kind.__init__, "__wrapped__"):
            kind.__init__ = decorator_tf_session(kind.__init__)


if not has("functions", "npu_bridge.estimator.npu.npu_config:decorator_tf_session"):
    del set_npu_default_config, decorator_tf_session
