"""Print what the simulator offers: {functions: {name: signature}, operations: {name: outputs' dtype, shape}}.

argv[1]: JSON list of names "package.module:function". On TensorFlow 2 names of npu_bridge are looked up in
npu_device.compat.v1, where the adapter's build copies them.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from typing import Any

import tensorflow.compat.v1 as tf

from bert.backend import adapter
from tests.npu.programs.outputs import outputs

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


def main() -> None:
    with tf.Graph().as_default():
        functions = {name: signature(name) for name in json.loads(sys.argv[1])}
        print(json.dumps({"functions": functions, "operations": outputs(FOUND.float_status)}))


if __name__ == "__main__":
    main()
