"""Try what the adapter refuses and what it allows, one case after the other: prints {case: [text, key]}."""

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
FLAG = FOUND.float_status


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


def asked(**parameters: Any) -> None:
    """Make a session with these options beside the sane ones."""
    tf.Session(config=config(dict(SANE, **parameters))).close()


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


def int64_allreduce() -> None:
    FOUND.hccl_ops.allreduce(tf.ones([2], tf.int64), "sum")


def float64_allreduce() -> None:
    FOUND.hccl_ops.allreduce(tf.ones([2], tf.float64), "sum")


def broadcast_of_a_single_tensor() -> None:
    FOUND.hccl_ops.broadcast(tf.ones([2]), 0)


def gather_for_no_ranks() -> None:
    FOUND.hccl_ops.allgather(tf.ones([2]), 0)


def flag_compared_with_a_float() -> None:
    tf.equal(FLAG.npu_get_float_status_v2(), 0.0)


def flag_with_an_address() -> None:
    FLAG.npu_get_float_status_v2([tf.ones([8])])


def flag_without_an_address() -> None:
    FLAG.npu_get_float_status_v2()


def dropout_of_integers() -> None:
    FOUND.npu_ops.dropout(tf.ones([2], tf.int32), 0.5)


def dropout_of_everything() -> None:
    FOUND.npu_ops.dropout(tf.ones([2]), 0.0)


def run_after_shutdown() -> None:
    with opened() as made:
        made.run(FOUND.npu_ops.shutdown_system())
        made.run(tf.ones([2]))


def one_shot_iterator() -> None:
    with opened() as made:
        made.run(tf.data.make_one_shot_iterator(once(1.0)).get_next())


def dynamic_shape() -> None:
    with opened() as made:
        made.run(tf.boolean_mask(tf.ones([3]), tf.random.uniform([3]) > 0.5))


def host_function() -> None:
    with opened() as made:
        made.run(tf.numpy_function(lambda: np.float32(1), [], tf.float32))


def second_init() -> None:
    with opened() as made:
        made.run(FOUND.npu_ops.initialize_system())
    assert DEVICE.opened == 1, DEVICE.opened


def session_without_the_optimizer() -> None:
    with tf.Session() as made:
        made.run(FOUND.npu_ops.initialize_system())
        made.run(FOUND.hccl_ops.allreduce(tf.ones([2]), "sum"))


def remapping_on() -> None:
    given = config(remapping=False)
    tf.Session(config=given).close()
    assert given.graph_options.rewrite_options.remapping == 2, given  # OFF, as the adapter has set it


def memory_optimization_on() -> None:
    tf.Session(config=config(memory=False))


def _loop(parameters: Map, load: int, step: str = "collected") -> int:
    """Run a loop over an addition; give the steps that it made."""
    feeder = tf.data.make_initializable_iterator(once(1.0))
    total = tf.get_variable("total", [1], initializer=tf.zeros_initializer(), use_resource=True)
    if step:
        collections = [tf.GraphKeys.GLOBAL_VARIABLES]
        collections += [tf.GraphKeys.GLOBAL_STEP] if step == "collected" else []
        zeros = tf.zeros_initializer()
        tf.get_variable("global_step", [], tf.int64, zeros, use_resource=True, collections=collections)
    loop = FOUND.util.IterationPerLoop()
    operation = loop.create_iteration_per_loop_var(tf.group(total.assign_add(feeder.get_next())))
    with opened(parameters=parameters) as made:
        made.run([tf.global_variables_initializer(), feeder.initializer])
        if load:
            loop.load_iteration_per_loop_var(made, load)
        made.run(operation)
        return int(made.run(total)[0])


def loop_without_data_on_the_device() -> None:
    _loop(dict(SANE, enable_data_pre_proc=False), 4)


def loop_longer_than_the_session_says() -> None:
    assert _loop(SANE, 5) == 5


def loop_where_the_session_has_none() -> None:
    assert _loop(dict(SANE, iterations_per_loop=1), 5) == 1


def loop_without_a_global_step() -> None:
    assert _loop(SANE, 3, step="") == 3


def loop_beside_a_step_in_no_collection() -> None:
    _loop(SANE, 4, step="by name alone")


def loop_of_an_unloaded_count() -> None:
    _loop(SANE, 0)


def loop_over_a_tensor() -> None:
    FOUND.util.set_iteration_per_loop(None, tf.ones([1]), 2)


def loop_of_no_steps() -> None:
    FOUND.util.set_iteration_per_loop(None, tf.no_op(), 0)


def loop_of_half_a_step() -> None:
    FOUND.util.set_iteration_per_loop(None, tf.no_op(), 0.5)


def fused_with_its_own_input() -> None:
    first = FOUND.hccl_ops.allreduce(tf.ones([2]), "sum", 2, 7)
    with opened() as made:
        made.run(FOUND.hccl_ops.allreduce(first + 1.0, "sum", 2, 7))


def gather_for_another_size() -> None:
    with opened() as made:
        made.run(FOUND.hccl_ops.allgather(tf.ones([2]), 2))


def ge_between_two_sessions() -> None:
    """The last session with graphs finalises GE; the next graph initialises it again."""
    with tf.Session(config=config()) as control:
        control.run(FOUND.npu_ops.initialize_system())
        with session() as first:
            first.run(tf.ones([2]))
        assert DEVICE.state == "idle", DEVICE.state
        with session() as second:
            second.run(tf.ones([2]))
            assert (DEVICE.state, DEVICE.opened) == ("open", 2), DEVICE.opened


def session_closed_after_the_shutdown() -> None:
    with opened() as control, session() as first:
        first.run(tf.ones([2]))
        control.run(FOUND.npu_ops.shutdown_system())
    assert DEVICE.late_sessions == 1, DEVICE.late_sessions


def static_scale_below_one() -> None:
    if FOUND.loss_scale:
        FOUND.loss_scale.FixedLossScaleManager(0.5)


OPTIONS: dict[str, Map] = {
    "unknown_parameter": {"dynamic_loss_scale": True},
    "parameter_of_another_type": {"iterations_per_loop": b"4"},
    "jit_compile_is_no_text": {"jit_compile": True},
    "offline_mode_off": {"use_off_line": False},
    "no_iterations_per_loop": {"iterations_per_loop": 0},
    "unknown_graph_run_mode": {"graph_run_mode": 2},
    "unknown_precision": {"precision_mode": b"fp8"},
    "exception_dump_of_3": {"enable_exception_dump": 3},
    "dump_without_a_path": {"enable_dump": True},
    "dump_into_no_folder": {"enable_dump": True, "dump_path": b"/nowhere"},
    "dump_step_with_a_comma": {"enable_dump": True, "dump_path": b".", "dump_step": b"0,5"},
    "dump_steps_backwards": {"enable_dump": True, "dump_path": b".", "dump_step": b"5-2"},
    "dump_step_left_open": {"enable_dump": True, "dump_path": b".", "dump_step": b"5-"},
    "dump_step_of_nothing": {"enable_dump": True, "dump_path": b".", "dump_step": b"|5"},
    "dump_of_101_sets": {"enable_dump": True, "dump_path": b".", "dump_step": b"|".join([b"1"] * 101)},
    "unknown_dump_mode": {"enable_dump": True, "dump_path": b".", "dump_mode": b"some"},
    "unknown_dump_debug_mode": {"enable_dump_debug": True, "dump_path": b".", "dump_debug_mode": b"some"},
    "both_dumps": {"enable_dump": True, "enable_dump_debug": True, "dump_path": b"."},
    "profiling_without_options": {"profiling_mode": True},
}
ENVIRONMENTS = {
    "job_id_missing": {"JOB_ID": ""},
    "both_families": {"CM_WORKER_SIZE": "1"},
    "both_kinds_of_table": {"CM_CHIEF_IP": "10.0.0.1"},
    "table_without_size": {"RANK_SIZE": ""},
    "free_mode_is_incomplete": {
        "CM_CHIEF_IP": "10.0.0.1",
        "RANK_TABLE_FILE": "",
        "RANK_SIZE": "",
        "RANK_ID": "",
    },
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
    collective_before_init, rank_before_init, wrong_group, wrong_reduction, int64_allreduce,
    float64_allreduce, broadcast_of_a_single_tensor, gather_for_no_ranks, flag_compared_with_a_float,
    flag_with_an_address, flag_without_an_address, dropout_of_integers, dropout_of_everything,
    run_after_shutdown, one_shot_iterator, dynamic_shape, host_function, second_init,
    session_without_the_optimizer, remapping_on, memory_optimization_on, loop_without_data_on_the_device,
    loop_longer_than_the_session_says, loop_where_the_session_has_none, loop_without_a_global_step,
    loop_beside_a_step_in_no_collection, loop_of_an_unloaded_count, loop_over_a_tensor, loop_of_no_steps,
    loop_of_half_a_step, fused_with_its_own_input, gather_for_another_size, ge_between_two_sessions,
    session_closed_after_the_shutdown, static_scale_below_one,
]  # fmt: skip


def said(case: Any) -> list[str]:
    """Run a case on a new device; give the error and the key of its refusal, "" when there was none."""
    DEVICE.__init__()
    with tf.Graph().as_default():
        try:
            case()
        except Exception as error:
            return [f"{type(error).__name__}: {error}", getattr(error, "key", "")]
    return ["", ""]


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
    for name, parameters in OPTIONS.items():
        answers[name] = said(lambda parameters=parameters: asked(**parameters))
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
