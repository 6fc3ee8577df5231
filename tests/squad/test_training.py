"""From flags to the trainer's settings, and a rank's place in the job."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from bert.cluster import Cluster
from bert.train_config import TrainConfig
from squad.data.data_order import DataOrder, OrderConfig
from squad.flags import SquadFlags
from squad.job import Job
from squad.training import describe, describe_scale, loss_scale, rows_per_step, train_config

COMPUTED = {
    "num_train_steps", "num_warmup_steps", "dropout", "clip", "amp", "rows_per_step", "steps_per_epoch",
    "softmax_over", "npu_bert_loss_scale",
}  # fmt: skip


def config(ranks: int = 1, **changes: Any) -> TrainConfig:
    flags = SquadFlags(**changes)
    lengths = None if flags.batching == "pad" else np.full(100, 300)
    order = DataOrder(OrderConfig(rows_per_step(flags, ranks), mode=flags.batching), 100, lengths)
    return train_config(flags, order, "cpu")


def other(value: Any) -> Any:
    """Give another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return not value
    return value + "x" if isinstance(value, str) else value + 1


def test_every_setting_that_has_a_flags_name_is_that_flags_value() -> None:
    shared = {f.name for f in dataclasses.fields(TrainConfig)} & {
        f.name for f in dataclasses.fields(SquadFlags)
    }
    defaults = dataclasses.asdict(SquadFlags())
    changes: dict[str, Any] = {name: other(defaults[name]) for name in shared - COMPUTED}
    found = dataclasses.asdict(config(**changes))
    assert {"learning_rate", "lr_scaling", "optimizer_type", "init_loss_scale_value", "seed"} <= set(changes)
    assert {name: found[name] for name in changes} == changes


def test_no_flag_about_training_is_left_behind() -> None:
    """What the trainer does not take is read elsewhere: by the data path or by the NPU's options."""
    from bert.backend.npu_options import NpuOptions

    names = {f.name for f in dataclasses.fields(TrainConfig)} | {
        f.name for f in dataclasses.fields(NpuOptions)
    }
    own = {
        "global_batch_size", "train_batch_size", "num_train_epochs", "warmup_proportion", "batching",
        "npu_bert_debug", "npu_bert_clip_by_global_norm", "dropout_rate", "steps_from", "round_steps_to",
    }  # fmt: skip
    fields = [f.name for f in dataclasses.fields(SquadFlags)]
    training = fields[fields.index("train_batch_size") : fields.index("predict_batch_size")]
    assert set(training) - names - own == set()


@pytest.mark.parametrize(
    ("changes", "steps", "decay"),
    [
        ({"steps_from": "examples"}, 8144, 0),
        ({"steps_from": "examples", "round_steps_to": 100}, 8200, 8144),
        ({"round_steps_to": 100}, 8300, 8242),
        ({"num_train_steps": 7, "steps_from": "examples", "round_steps_to": 100}, 7, 0),
    ],
)
def test_steps_are_counted_and_rounded_as_in_the_original_script(
    changes: dict[str, Any], steps: int, decay: int
) -> None:
    """130,319 questions of SQuAD 2.0, which make 131,868 features or so."""
    flags = SquadFlags(train_batch_size=32, num_train_epochs=2.0, **changes)
    found = train_config(flags, DataOrder(OrderConfig(32), 131868), "cpu", 130319)
    assert (found.num_train_steps, found.decay_steps) == (steps, decay)
    assert found.num_warmup_steps == int((decay or steps) * 0.1)
    text = describe(DataOrder(OrderConfig(32), 131868), found, 131868, 1)
    assert text.startswith(f"training: {steps} steps of 32 rows on 1 device")
    assert ("at rate 0 from step" in text) is bool(decay)


@pytest.mark.parametrize(
    ("changes", "ranks", "rows"),
    [
        ({}, 1, 8),
        ({}, 8, 64),
        ({"num_accumulation_steps": 4, "train_batch_size": 2}, 3, 24),
        ({"global_batch_size": 32, "train_batch_size": 5, "num_accumulation_steps": 4}, 3, 32),
    ],
)
def test_a_step_has_the_rows_asked_for(changes: Any, ranks: int, rows: int) -> None:
    assert rows_per_step(SquadFlags(**changes), ranks) == rows
    assert config(ranks, **changes).rows_per_step == rows


@pytest.mark.parametrize(
    ("changes", "steps", "warmup"),
    [
        ({}, 39, 3),  # 3 epochs of 13
        ({"num_train_epochs": 0.01}, 1, 0),
        ({"num_train_epochs": 1.5}, 20, 2),
        ({"num_train_steps": 10}, 10, 1),
    ],
)
def test_steps_follow_from_epochs_unless_they_are_given(changes: Any, steps: int, warmup: int) -> None:
    found = config(**changes)
    assert (found.num_train_steps, found.num_warmup_steps, found.steps_per_epoch) == (steps, warmup, 13)


def test_the_softmax_is_over_the_row_only_where_rows_are_padded_alike() -> None:
    found = {mode: config(batching=mode).softmax_over for mode in ("pad", "bucket", "pack")}
    assert found == {"pad": "row", "bucket": "tokens", "pack": "tokens"}


def test_debugging_switches_dropout_off() -> None:
    assert config().dropout and not config(npu_bert_debug=True).dropout


@pytest.mark.parametrize(
    ("changes", "device", "scale"),
    [
        ({}, "npu", 0),
        ({}, "cpu", -1),
        ({"amp": True}, "cpu", -1),  # bfloat16
        ({"amp": False}, "npu", 0),  # allow_fp32_to_fp16: products are float16 all the same
        ({"precision_mode": "allow_mix_precision_fp16"}, "npu", 0),
        ({"precision_mode": "force_fp16"}, "npu", 0),
        ({"precision_mode": "cube_fp16in_fp32out"}, "npu", 0),
        ({"precision_mode": "force_fp16"}, "cpu", -1),
        ({"precision_mode": "allow_mix_precision_bf16"}, "npu", -1),
        ({"precision_mode": "allow_fp32_to_bf16", "amp": True}, "npu", -1),
        ({"precision_mode": "must_keep_origin_dtype"}, "npu", -1),
        ({"npu_bert_loss_scale": -1.0}, "npu", -1),
        ({"npu_bert_loss_scale": 1024.0}, "npu", 1024),
        ({"npu_bert_loss_scale": 0.0}, "cpu", 0),
        ({"npu_bert_loss_scale": 0.0, "precision_mode": "must_keep_origin_dtype"}, "npu", 0),
    ],
)
def test_the_loss_scale_is_dynamic_where_an_npu_computes_in_float16_unless_one_is_given(
    changes: Any, device: str, scale: float
) -> None:
    flags = SquadFlags(**changes)
    chosen = train_config(flags, DataOrder(OrderConfig(8), 100), device).npu_bert_loss_scale
    assert chosen == loss_scale(flags, device) == scale
    assert isinstance(chosen, float)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"npu_bert_loss_scale": 0.0}, "loss scale: dynamic, starting at 4294967296"),
        ({"npu_bert_loss_scale": 1024.0}, "loss scale: 1024"),
        ({}, "loss scale: off"),
    ],
)
def test_the_loss_scale_chosen_is_said(changes: Any, line: str) -> None:
    assert describe_scale(config(**changes)) == line


def test_a_packed_training_says_rows_and_features() -> None:
    order = DataOrder(OrderConfig(8, mode="pack", row_length=384), 100, np.full(100, 100))
    text = describe(order, train_config(SquadFlags(batching="pack"), order, "cpu"), 100, 2)
    assert "steps of 8 rows on 2 devices; an epoch is 100 features in 34 rows, 5 steps" in text


def test_the_first_rank_of_each_host_builds_and_rank_0_owns_the_files() -> None:
    servers = ("a", "a", "b", "b")
    jobs = [Job(SquadFlags(), Cluster(rank, 4, servers=servers, run_dir="/run"), None) for rank in range(4)]  # type: ignore[arg-type]
    assert [job.cluster.first_on_host for job in jobs] == [True, False, True, False]
    assert {job.output_dir for job in jobs} == {"/run/ranks/0"}
