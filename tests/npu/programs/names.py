"""Print what the simulator offers: {functions: {name: signature}, operations: {name: outputs' dtype, shape}}.

argv[1]: JSON list of names "package.module:function". On TensorFlow 2 names of npu_bridge are looked up in
npu_device.compat.v1, where the adapter's build copies them.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from typing import Any, Dict, List

import numpy as np
import tensorflow.compat.v1 as tf

from bert.backend import adapter

FOUND = adapter.find()
VERSION_1 = tf.__version__.startswith("1.")


def signature(name: str) -> str:
    """Give a function's signature without annotations; "" where this TensorFlow's adapter has no such."""
    module, _, qualified = name.partition(":")
    if not VERSION_1:
        module = module.replace("npu_bridge", "npu_device.compat.v1", 1)
    if module.startswith("npu_device") and VERSION_1:
        return ""
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        return ""
    for part in qualified.split("."):
        found = getattr(found, part, None)
    if found is None:
        return ""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(found).parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(parameters))


def operations() -> Dict[str, List[Any]]:
    """Make each operation once, of float32 where its type is open, and look at its outputs."""
    ops, x = FOUND.float_status, tf.constant(np.ones([4, 2], np.float32))
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


def main() -> None:
    with tf.Graph().as_default():
        functions = {name: signature(name) for name in json.loads(sys.argv[1])}
        print(json.dumps({"functions": functions, "operations": operations()}))


if __name__ == "__main__":
    main()
