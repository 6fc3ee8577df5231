"""Load weights from TensorFlow or safetensors checkpoints; save Google-named TensorFlow ones."""

from __future__ import annotations

import glob
import os
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from bert import checkpoint_index, heartbeat, names


def load(path: str, variables: Dict[str, Any], session: Any) -> List[str]:
    """Assign the values that a checkpoint has; return a report, one line each fact."""
    used, unused = [], []
    for name, value in read(path):
        if name not in variables:
            unused.append(name)
            continue
        variables[name].load(value, session)
        used.append(name)
    missing = sorted(set(variables) - set(used))
    report = ["%s: %d variables loaded" % (path, len(used))]
    if missing:
        report.append("not in it, new: %s" % ", ".join(missing))
    if unused:
        report.append("in it, not used: %d, first %s" % (len(unused), unused[0]))
    return report


def read(path: str) -> Iterator[Tuple[str, np.ndarray]]:
    found = checkpoint_index.find(path) or path
    if not found.endswith(".safetensors"):
        reader = tf.train.NewCheckpointReader(found[: -len(".index")])
        for name in reader.get_variable_to_shape_map():
            yield name, reader.get_tensor(name)
        return
    from safetensors.numpy import load_file

    for name, value in load_file(found).items():
        google, transposed = names.from_hf(name)
        yield google or name, value.T if transposed else value


def save(session: Any, saver: Any, prefix: str, step: int) -> None:
    """Write PREFIX.* and tell the launcher."""
    os.makedirs(os.path.dirname(prefix), exist_ok=True)
    saver.save(session, prefix, write_meta_graph=False)
    files = sorted(glob.glob(glob.escape(prefix) + ".*"))
    heartbeat.artifact({"kind": "checkpoint", "step": step, "prefix": prefix, "files": files})
