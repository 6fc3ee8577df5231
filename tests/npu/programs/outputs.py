"""Types and shapes of what the adapter's operations give: the simulator's, or those of real definitions."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf


def outputs(ops: Any) -> dict[str, list[Any]]:
    """Make each operation once, of float32 where its type is open, and look at its outputs."""
    x = tf.constant(np.ones([4, 2], np.float32))
    world = {"group": "hccl_world_group"}
    fused = (
        {}
        if "fusion" not in inspect.signature(ops.hcom_all_gather).parameters
        else {"fusion": 0, "fusion_id": -1}
    )
    mask = ops.drop_out_gen_mask([4, 2], 0.5)
    flag = ops.npu_alloc_float_status()
    second = ops.npu_get_float_status_v2
    made = {
        "HcomAllReduce": ops.hcom_all_reduce(x, "sum", fusion=1, fusion_id=-1, **world),
        "HcomAllGather": ops.hcom_all_gather(x, rank_size=3, **fused, **world),
        "HcomBroadcast": ops.hcom_broadcast([x], fusion=0, fusion_id=0, root_rank=0, **world)[0],
        "NpuAllocFloatStatus": flag,
        "NpuGetFloatStatus": ops.npu_get_float_status(flag),
        "NpuClearFloatStatus": ops.npu_clear_float_status(flag),
        "NpuGetFloatStatusV2": second([flag])
        if inspect.signature(second).parameters.get("addr")
        else second(),
        "Gelu": ops.gelu(x),
        "GeluGrad": ops.gelu_grad(x, x, x),
        "DropOutGenMask": mask,
        "DropOutDoMask": ops.drop_out_do_mask(x, mask, 0.5),
    }
    none = {"NpuClearFloatStatusV2": ops.npu_clear_float_status_v2(), "NPUInit": ops.npu_init(),
            "NPUShutdown": ops.npu_shutdown()}  # fmt: skip
    assert all(isinstance(operation, tf.Operation) for operation in none.values())
    outputs = {name: [value.dtype.base_dtype.name, value.shape.as_list()] for name, value in made.items()}
    return {**outputs, **{name: [] for name in none}}
