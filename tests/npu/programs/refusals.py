"""Try what the adapter refuses, one case after the other, and print what it said: {case: text}."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any, Dict, Iterator

import numpy as np
import tensorflow.compat.v1 as tf

from bert.backend import adapter

AT_ONCE = dict(os.environ)
FOUND = adapter.find()

from npu_simulator.device import DEVICE  # noqa: E402 - the simulator's own state, to start each case anew

Map = Dict[str, Any]
SANE: Map = {"use_off_line": True, "enable_data_pre_proc": True, "iterations_per_loop": 4}


def config(parameters: Map = SANE, remapping: bool = True, memory: bool = True) -> Any:
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    result = tf.ConfigProto()
    rewrite = result.graph_options.rewrite_options
    if remapping:
        rewrite.remapping = RewriterConfig.OFF
    if memory:
        rewrite.memory_optimization = RewriterConfig.OFF
    custom = rewrite.custom_optimizers.add()
    custom.name = "NpuOptimizer"
    for name, value in parameters.items():
        field = {bool: "b", int: "i", bytes: "s", float: "f"}[type(value)]
        setattr(custom.parameter_map[name], field, value)
    return result


@contextlib.contextmanager
def session(**options: Any) -> Iterator[Any]:
    with tf.Session(config=config(**options)) as opened:
        yield opened


@contextlib.contextmanager
def opened(**options: Any) -> Iterator[Any]:
    start = FOUND.npu_ops.initialize_system()
    with session(**options) as made:
        made.run(start)
        yield made


def once(*values: float) -> Any:
    return tf.data.Dataset.from_tensors(np.array(values, np.float32)).repeat()


def collective_before_init() -> None:
    with session() as made:
        made.run(FOUND.hccl_ops.allreduce(tf.ones([2]), "sum"))


def rank_before_init() -> None:
    FOUND.hccl.get_rank_id()


def wrong_group() -> None:
    with opened() as made:
        made.run(FOUND.hccl_ops.allreduce(tf.ones([2]), "sum", group="nobody"))


def wrong_reduction() -> None:
    FOUND.hccl_ops.allreduce(tf.ones([2]), "mean")


def int64_cannot_be_added() -> None:
    FOUND.hccl_ops.allreduce(tf.ones([2], tf.int64), "sum")


def broadcast_of_a_single_tensor() -> None:
    FOUND.hccl_ops.broadcast(tf.ones([2]), 0)


def second_init() -> None:
    with opened() as made:
        made.run(FOUND.npu_ops.initialize_system())


def run_after_shutdown() -> None:
    with opened() as made:
        made.run(FOUND.npu_ops.shutdown_system())
        made.run(tf.ones([2]))


def session_without_the_optimizer() -> None:
    with tf.Session() as made:
        made.run(FOUND.npu_ops.initialize_system())


def remapping_on() -> None:
    config_ = config(remapping=False)
    tf.Session(config=config_)


def memory_optimization_on() -> None:
    tf.Session(config=config(memory=False))


def unknown_parameter() -> None:
    tf.Session(config=config(dict(SANE, dynamic_loss_scale=True)))


def parameter_of_another_type() -> None:
    tf.Session(config=config(dict(SANE, iterations_per_loop=b"4")))


def unknown_precision() -> None:
    tf.Session(config=config(dict(SANE, precision_mode=b"fp8")))


def dump_without_a_path() -> None:
    tf.Session(config=config(dict(SANE, enable_dump=True)))


def one_shot_iterator() -> None:
    with opened() as made:
        made.run(tf.data.make_one_shot_iterator(once(1.0)).get_next())


def dynamic_shape() -> None:
    with opened() as made:
        made.run(tf.boolean_mask(tf.ones([3]), tf.random.uniform([3]) > 0.5))


def host_function() -> None:
    with opened() as made:
        made.run(tf.numpy_function(lambda: np.float32(1), [], tf.float32))


def _loop(parameters: Map, load: int, iterator: bool = True) -> None:
    feeder = tf.data.make_initializable_iterator(once(1.0))
    total = tf.get_variable("total", [1], initializer=tf.zeros_initializer(), use_resource=True)
    step = total.assign_add(feeder.get_next() if iterator else tf.ones([1]))
    loop = FOUND.util.IterationPerLoop()
    operation = loop.create_iteration_per_loop_var(tf.group(step))
    with opened(parameters=parameters) as made:
        made.run([tf.global_variables_initializer(), feeder.initializer])
        if load:
            loop.load_iteration_per_loop_var(made, load)
        made.run(operation)


def loop_without_data_on_the_device() -> None:
    _loop(dict(SANE, enable_data_pre_proc=False), 4)


def loop_longer_than_the_session_says() -> None:
    _loop(SANE, 5)


def loop_of_an_unloaded_count() -> None:
    _loop(SANE, 0)


def loop_over_a_tensor() -> None:
    FOUND.util.set_iteration_per_loop(None, tf.ones([1]), 2)


def loop_of_no_steps() -> None:
    FOUND.util.set_iteration_per_loop(None, tf.no_op(), 0)


def fused_with_its_own_input() -> None:
    first = FOUND.hccl_ops.allreduce(tf.ones([2]), "sum", 2, 7)
    with opened() as made:
        made.run(FOUND.hccl_ops.allreduce(first + 1.0, "sum", 2, 7))


def gather_for_another_size() -> None:
    with opened() as made:
        made.run(FOUND.hccl_ops.allgather(tf.ones([2]), 2))


ENVIRONMENTS = {
    "job_id_missing": {"JOB_ID": ""},
    "both_families": {"CM_WORKER_SIZE": "1"},
    "both_kinds_of_table": {"CM_CHIEF_IP": "10.0.0.1", "RANK_SIZE": ""},
    "pod_name": {"POD_NAME": "pod-0"},
    "device_is_no_number": {"ASCEND_DEVICE_ID": "npu0"},
    "rank_is_no_number": {"RANK_ID": "pod-0"},
    "rank_beyond_the_table": {"RANK_ID": "1"},
    "size_of_another_table": {"RANK_SIZE": "8"},
    "table_is_missing": {"RANK_TABLE_FILE": "/nowhere/rank_table.json"},
    "table_that_hccl_refuses": {"RANK_TABLE_FILE": "broken.json"},
    "connect_timeout": {"HCCL_CONNECT_TIMEOUT": "60"},
    "another_device_than_the_tables": {"NPU_SIMULATOR_DEVICES": "3"},
    "device_that_is_not_there": {"NPU_SIMULATOR_DEVICES": "0", "ASCEND_DEVICE_ID": "1"},
}
CASES = [
    collective_before_init, rank_before_init, wrong_group, wrong_reduction, int64_cannot_be_added,
    broadcast_of_a_single_tensor, second_init, run_after_shutdown, session_without_the_optimizer,
    remapping_on, memory_optimization_on, unknown_parameter, parameter_of_another_type, unknown_precision,
    dump_without_a_path, one_shot_iterator, dynamic_shape, host_function, loop_without_data_on_the_device,
    loop_longer_than_the_session_says, loop_of_an_unloaded_count, loop_over_a_tensor, loop_of_no_steps,
    fused_with_its_own_input, gather_for_another_size,
]  # fmt: skip


def said(case: Any) -> str:
    """Run a case on a new device and give the refusal; "" when there was none."""
    DEVICE.__init__()
    with tf.Graph().as_default():
        try:
            case()
        except Exception as error:
            return "%s: %s" % (type(error).__name__, error)
    return ""


def _open() -> None:
    with opened():
        pass


def _break_table() -> None:
    """Write the table with a rank_id that leaves a gap."""
    with open(os.environ["RANK_TABLE_FILE"], encoding="utf-8") as stream:
        text = stream.read()
    with open("broken.json", "w", encoding="utf-8") as stream:
        stream.write(re.sub(r'"rank_id": *"0"', '"rank_id": "3"', text))


def main() -> None:
    _break_table()
    answers = {case.__name__: said(case) for case in CASES}
    for name, changes in ENVIRONMENTS.items():
        os.environ.clear()
        os.environ.update({key: value for key, value in dict(AT_ONCE, **changes).items() if value})
        answers[name] = said(_open)
    os.environ.clear()
    os.environ.update(AT_ONCE)
    answers["nothing_wrong"] = said(_open)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
