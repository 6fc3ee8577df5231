"""Logs of every format, as what each says: docs/compare.md."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from launcher.compare.formats import read
from tests.launcher.compare.reading import Reader, estimator, losses, rates, told

GOLDEN = Path(__file__).with_name("golden")


# What the real hooks printed.


def test_the_estimator_of_tensorflow_1_15() -> None:
    curve = read(GOLDEN / "estimator.log", global_batch=4)
    assert curve.kind == "TF Estimator"
    assert [step for step, _ in losses(curve)] == [1, 11, 21, 31, 41, 51, 61]
    assert losses(curve)[1] == (11, 3.9780219)
    assert curve.points[1].examples == 44
    speed = (GOLDEN / "estimator.log").read_text().split("global_step/sec: ")[1].split()[0]
    assert curve.points[1].rate == pytest.approx(4 * float(speed))  # of the interval that ends there
    assert curve.rate_is == "global"


def test_of_two_equal_messages_one_counts() -> None:
    curve = read(GOLDEN / "estimator_twin.log")
    assert [step for step, _ in losses(curve)] == [1, 11, 21, 31]
    assert "stands twice" in told(curve)
    assert curve.points[0].time is not None and curve.points[0].time > 1000  # absl's


def test_tpu_estimator_prints_no_loss() -> None:
    curve = read(GOLDEN / "tpu.log", ranks=8)
    assert curve.kind == "TPUEstimator"
    assert not losses(curve)
    assert len(rates(curve)) == 39
    assert "holds no loss" in told(curve) and "final step: 0.372734" in told(curve)
    assert (curve.rate_is, curve.global_batch) == ("per device", 32)  # 4 examples a step of one process


def test_the_console_of_hugging_face_with_its_bars() -> None:
    curve = read(GOLDEN / "hf_console.log")
    assert [step for step, _ in losses(curve)] == [10, 20, 30, 40, 50]
    assert math.isnan(losses(curve)[3][1])
    assert curve.scores == {"exact": 81.25, "f1": 88.5}
    assert rates(curve) == [32.0] and curve.rate_is == "global"


def test_trainer_state_also_one_that_is_cut_off(tmp_path: Path) -> None:
    curve = read(GOLDEN / "trainer_state.json")
    assert [step for step, _ in losses(curve)] == [10, 20, 30, 40, 50]
    assert curve.points[0].learning_rate == 4e-5
    text = (GOLDEN / "trainer_state.json").read_text()
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-30").mkdir()
    (tmp_path / "checkpoint-30" / "trainer_state.json").write_text(text[: text.index('"step": 30')])
    curve = read(tmp_path)  # a folder of output
    assert [step for step, _ in losses(curve)] == [10, 20]
    assert "cut off" in told(curve)


@pytest.mark.parametrize("version", [1, 2])
def test_events_of_tensorboard(version: int, tmp_path: Path) -> None:
    path = GOLDEN / f"events_tf{version}.tfevents"
    curve = read(path)
    assert losses(curve)[:3] == [(1, 4.0), (2, 2.0), (3, 1.0)] and math.isnan(losses(curve)[3][1])
    data = path.read_bytes()
    (tmp_path / "cut").write_bytes(data[:-20])
    assert len(losses(read(tmp_path / "cut"))) == (3 if version == 1 else 4)
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 255
    (tmp_path / "flipped").write_bytes(bytes(flipped))
    assert "damaged" in told(read(tmp_path / "flipped"))


# The documented forms.


@pytest.mark.parametrize("zero", [True, False])
def test_steps_count_from_one(log: Reader, zero: bool) -> None:
    first = 0 if zero else 1
    curve = log(*estimator((first, 6.5), (first + 100, "1e-05"), (first + 200, "inf")))
    assert losses(curve) == [(1, 6.5), (101, 1e-5), (201, math.inf)]
    assert ("count from 0" in told(curve)) is zero


def test_a_hook_with_other_tensors(log: Reader) -> None:
    lines = [
        "INFO:tensorflow:learning_rate = 5e-05, step = 100, total_loss = 2.5 (3.1 sec)",
        "INFO:tensorflow:Saving dict for global step 100: global_step = 100, loss = 9.0",  # of an evaluation
        "ERROR:tensorflow:Model diverged with loss = NaN.",
    ]
    curve = log(*lines)
    assert losses(curve) == [(100, 2.5)]
    assert curve.points[0].learning_rate == 5e-5
    assert "became NaN" in told(curve)


def test_nvidia_since_2019_07(log: Reader) -> None:
    lines = [
        "INFO:tensorflow:hvd.size() = 8 hvd.rank() = 0",
        "INFO:tensorflow:***** Configuaration *****",
        "INFO:tensorflow:  train_batch_size: 4", "INFO:tensorflow:  num_accumulation_steps: 2",
        "INFO:tensorflow:  horovod: True", "INFO:tensorflow:  api_token: hunter2",
        "INFO:tensorflow:**************************",
        "INFO:tensorflow:***** Running training *****", "INFO:tensorflow:  Batch size = 4",
        *estimator((0, 6.0)), "INFO:tensorflow:global_step/sec: 2.5", *estimator((100, 3.0)),
        "Skipping time record for  100  due to checkpoint-saving/warmup overhead",
        "INFO:tensorflow:Total Training Time = 100.00 for Sentences = 6400",
        "INFO:tensorflow:Throughput Average (sentences/sec) with overhead = 64.00",
        "INFO:tensorflow:Throughput Average (sentences/sec) = 160.00",
        "INFO:tensorflow:***** Running predictions *****", "INFO:tensorflow:  Batch size = 9",
        "INFO:tensorflow:Total Inference Time = 9.00 for Sentences = 100",
        "INFO:tensorflow:Throughput Average (sentences/sec) = 999.00",
        r"""b'{"exact_match": 81.5, "f1": 88.25}\n'""",
    ]  # fmt: skip
    curve = log(*lines)
    assert (curve.ranks, curve.global_batch, curve.rate_is) == (8, 64, "global")
    assert rates(curve) == [160.0]
    assert curve.points[1].examples == 101 * 64
    assert curve.scores == {"exact": 81.5, "f1": 88.25}
    assert curve.settings["horovod"] == "True" and "hunter2" not in str(curve)
    summary = log(*[line for line in lines if "loss" not in line and "global_step" not in line])
    assert rates(summary) == [160.0] and "holds no loss" in told(summary)


def test_nvidia_of_2019_03_whose_name_says_the_batch(log: Reader) -> None:
    lines = []
    for _ in range(3):
        lines += ["INFO:tensorflow:global_step/sec: 2.5", "INFO:tensorflow:examples/sec: 10.0"]
    summary = [
        "INFO:tensorflow:0 Total Training Time = 9.00 Training Time W/O start up overhead = 8.00 "
        "Sentences processed = 1000",
        "INFO:tensorflow:0 Training Performance = 125.0000 sentences/sec",
        "INFO:tensorflow:0 Inference Performance = 999.0000 sentences/sec",
        '{"exact": 72.5, "f1": 76.25, "total": 11873, "HasAns_exact": 70.5}',
    ]
    curve = log(*lines, *summary, name="tf_bert_base_squad_1n_fp32_gbs32.190523203805.log")
    assert (curve.global_batch, curve.ranks, curve.rate_is) == (32, 8, "per device")
    assert rates(curve) == [10.0] * 3
    assert curve.settings["precision"] == "fp32"
    assert curve.scores == {"exact": 72.5, "f1": 76.25, "HasAns_exact": 70.5}
    assert log(*lines).rate_is == "unknown"  # nothing says of how many devices
    assert log(*lines, ranks=1).rate_is == "global"
    assert rates(log(*summary)) == [125.0] and log(*summary).rate_is == "global"


DLL = "DLL 2021-06-14 23:08:5"


def test_dllogger_between_progress_bars(log: Reader) -> None:
    text = (
        f"Training:   1%|1 | 1/99 [0:00]\rTraining:   2%|1 | 2/99 [0:01]{DLL}3.659718 - Training Epoch: 0 "
        f"Training Iteration: 10  step_loss : 2.5  learning_rate : 1e-05 \n{DLL}4.5 - Training Epoch: 0 "
        f"Training Iteration: 20  step_loss : nan  learning_rate : 2e-05\r\nx\r{DLL}9 -  e2e_time : 9 s "
        "training_sequences_per_second : 55.5 sequences/s final_loss : 0.5  exact_match : 81.25  F1 : 88.5 "
    )
    curve = log(text)
    assert losses(curve)[0] == (10, 2.5) and math.isnan(losses(curve)[1][1]) and len(losses(curve)) == 2
    assert curve.points[1].learning_rate == 2e-5
    assert curve.points[1].time - curve.points[0].time == pytest.approx(0.840282)
    assert (rates(curve), curve.scores) == ([55.5], {"exact": 81.25, "f1": 88.5})


@pytest.mark.parametrize(
    ("text", "loss"),
    [("0,523", 0.523), ("5,8000000", 5.8), ("12,5", 12.5), ("1,234.5", 1234.5), ("2,5e-05", 2.5e-5)],
)
def test_a_decimal_comma_is_no_end_of_a_number(log: Reader, text: str, loss: float) -> None:
    curve = log(f"INFO:tensorflow:loss = {text}, step = 7", f"{{'loss': '{text}', 'epoch': 1}}")
    assert losses(curve) == [(7, loss)]


def test_ranks_that_write_rates_alone_are_counted(log: Reader) -> None:
    rows = ["global_step/sec: 2.5", "examples/sec: 10"] * 5
    curve = log(*(f"[1,{rank}]<stderr>:INFO:tensorflow:{row}" for row in rows for rank in range(4)))
    assert (curve.rate_is, curve.ranks, curve.global_batch) == ("per device", 4, 16)
    assert rates(curve) == [10.0] * 5


def test_scores_below_one_of_squads_scripts_are_doubted(log: Reader) -> None:
    curve = log('{"exact_match": 0.81, "f1": 0.88}')
    assert curve.scores == {"exact": 0.81, "f1": 0.88} and "at most 1, of 100" in told(curve)


def dlll(step: Any, kind: str = "LOG", **data: Any) -> str:
    about = {"timestamp": "1623712133.5", "elapsedtime": "1.5", "datetime": "2021-06-14 23:08:53.5"}
    return "DLLL " + json.dumps({**about, "type": kind, "step": step, "data": data})


def test_the_file_of_dllogger(log: Reader) -> None:
    curve = log(
        "DLLL " + json.dumps({"type": "METADATA", "metric": "loss", "metadata": {"unit": ""}}),
        dlll("PARAMETER", train_batch_size=8, SEED=1),
        dlll([0, 10], step_loss=2.5, learning_rate=1e-5),
        dlll([0, 10, 3], val_loss=9.0, loss=9.0),  # of the validation
        dlll([1, 20], step_loss="1.5", learning_rate="2e-05"),
        dlll([], e2e_train_time=3, training_sequences_per_second=44.0, final_loss=1.0),
        dlll([], exact_match=0.8125, F1=0.885),
    )
    assert (curve.kind, losses(curve)) == ("DLLogger file", [(10, 2.5), (20, 1.5)])
    assert (rates(curve), curve.global_batch, curve.settings["SEED"]) == ([44.0], None, "1")
    assert "a device's batch is 8, but of how many devices" in told(curve)
    assert curve.scores == {"exact": 81.25, "f1": 88.5} and "times 100" in told(curve)
    pretraining = dlll(100, total_loss=9.5, mlm_loss=8.0, throughput_train=77.0, learning_rate="1e-4")
    assert log(pretraining).points[0][2:5] == (9.5, 1e-4, 77.0)


def test_dllogger_whose_iterations_begin_anew_in_each_epoch(log: Reader) -> None:
    steps = [(epoch, iteration) for epoch in range(2) for iteration in range(3)]
    curve = log(*(dlll(list(step), train_loss=float(place)) for place, step in enumerate(steps)))
    assert losses(curve) == [(place + 1, float(place)) for place in range(6)]


def test_the_seed(log: Reader) -> None:
    form = "Step = %6i Throughput = %11.1f Loss = %9.6f LR = %6.4e"
    curve = log(form % (1, 12.5, 6.0, 5e-8), form % (100, 200.0, 3.5, 5e-6), global_batch=32)
    assert (losses(curve), rates(curve)) == ([(1, 6.0), (100, 3.5)], [12.5, 200.0])
    assert (curve.rate_is, curve.points[1].examples, curve.points[1].learning_rate) == ("global", 3200, 5e-6)
    assert "mean since the start" in told(curve)
    line = (
        "[Rank = %2d :: ]Step = %6i Throughput = %11.1f MLM Loss = %10.4e NSP Loss = %10.4e Loss = %9.6f "
        "Average Loss = %9.6f LR = %6.4e Loss scale = %6.4e isFinite = True"
    )
    ranks = log(*(line % (rank, 10, 50.0, 7, 1, 8 + rank, 9, 1e-4, 1024) for rank in range(2)))
    assert losses(ranks) == [(10, 8.5)]


def hook(*values: float) -> list[str]:
    lines = []
    for loss in values:
        lines.append(f"INFO:tensorflow:loss = {loss:.7f}")
        lines += ["INFO:tensorflow:global_step/sec: 2", "INFO:tensorflow:examples/sec: 64"]
    return lines


def test_the_successor_of_the_seed_has_no_step_numbers(log: Reader) -> None:
    scores = ["INFO:tensorflow:f1 = 88.5000000", "INFO:tensorflow:exact_match = 81.2500000"]
    curve = log(*hook(5.5, 4.5, 4.5), *scores, iterations_per_loop=100)
    assert losses(curve) == [(100, 5.5), (200, 4.5), (300, 4.5)]
    assert (rates(curve), curve.rate_is) == ([64.0] * 3, "global")
    assert (curve.global_batch, curve.points[0].examples) == (32, 3200)  # by the two rates
    assert curve.scores == {"exact": 81.25, "f1": 88.5}
    doubled = [line for line in hook(5.5, 4.5, 4.5) for _ in range(2)]
    assert [loss for _, loss in losses(log(*doubled))] == [5.5, 4.5, 4.5]
    assert "--iterations-per-loop" in told(log(*hook(5.5, 4.5)))


def test_the_result_file_of_huaweis_scripts(log: Reader) -> None:
    names = ["Network = Bert", "RankSize = 8", "BatchSize = 32", "CaseName = x_8p_acc"]
    curve = log(*names, "ActualFPS = 1000.5", "TrainingTime = 255.9", "TrainAccuracy = ", "ActualLoss =")
    assert (curve.kind, curve.ranks, curve.global_batch) == ("Huawei test result", 8, 256)
    assert (rates(curve), curve.rate_is) == ([1000.5], "global")
    assert "TrainAccuracy is empty" in told(curve) and "holds no loss" in told(curve)


@pytest.mark.parametrize("comma", ["", ","])
def test_mindspore(log: Reader, comma: str) -> None:
    places = [(epoch, step) for epoch in (1, 2) for step in (1, 2)]
    rows = [f"epoch: {epoch}{comma} step: {step}, loss is {epoch * 10 + step}" for epoch, step in places]
    curve = log(*rows[:2], "train epoch time: 100.0 ms, per step time: 50.0 ms", *rows[2:], global_batch=32)
    assert losses(curve) == [(1, 11.0), (2, 12.0), (3, 21.0), (4, 22.0)]
    assert rates(curve) == [640.0]


@pytest.mark.parametrize(
    ("line", "point"),
    [
        ("epoch: 1, current epoch percent: 0.001, step: 100, outputs are (Tensor(shape=[], dtype=Float32, "
         "value= 7.5), Tensor(shape=[], dtype=Bool, value= False))", (100, 7.5)),
        ("2024-05-01 10:00:00,123 - mindformers[x.py:1] - INFO - { Epoch:[  1/  2], step:[  100/  500], "
         "loss: 7.500, per_step_time: 500ms, lr: 1e-05, overflow cond: False, loss_scale: 1.0", (100, 7.5)),
        ('{"current_steps": 10, "total_steps": 99, "loss": 0.5, "lr": 1e-05, "epoch": 0.1, "percentage": 1, '
         '"elapsed_time": "1 day, 0:00:12", "remaining_time": "0:01:00"}', (10, 0.5)),
        ("{'loss': 0.5, 'grad_norm': 1.5, 'learning_rate': 1e-05, 'epoch': 0.1}", (None, 0.5)),
        ('{"step": 10, "loss": 0.5, "lr": 1e-05}', (10, 0.5)),
    ],
)  # fmt: skip
def test_other_lines(log: Reader, line: str, point: tuple[Any, float]) -> None:
    assert losses(log(line)) == [point]


def test_hugging_face_whose_head_says_the_batch(log: Reader) -> None:
    head = ["  Num examples = 1,000", "  Num Epochs = 2", "  Instantaneous batch size per device = 4",
            "  Total train batch size (w. parallel, distributed & accumulation) = 8",
            "  Total optimization steps = 250"]  # fmt: skip
    curve = log("***** Running training *****", *head, "{'loss': 0.5, 'learning_rate': 5e-05, 'epoch': 0.08}")
    assert curve.points[0][:3] == (10, 80, 0.5)


def test_our_own_console(log: Reader) -> None:
    line = "[rank 0] step {}/480  epoch 0.57  loss {}  lr 3e-05  scale 1024  14.7 examples/s (7.4 per device)"
    end = (
        "[rank 0] trained to step 50: 400 examples in 3 min 26 s; 18.67 examples/s with overhead, 9.34 per "
        "device; 18.98 examples/s without (first call, checkpoints), 9.49 per device"
    )
    curve = log(line.format(25, 0.5026), line.format(50, "nan"), end, "EM 88.333  F1 89.5  on 420 questions",
                "  HasAns  EM 97.143  F1 98.5  on 280")  # fmt: skip
    assert curve.points[0][:5] == (25, 200, 0.5026, 3e-5, 14.7)
    assert (curve.ranks, curve.global_batch) == (2, 8)
    assert curve.scores == {"exact": 88.333, "f1": 89.5, "HasAns_exact": 97.143, "HasAns_f1": 98.5}


@pytest.mark.parametrize(
    ("line", "exact"),
    [
        ('{"exact": 0.75, "f1": 0.8, "total": 4}', 75.0),  # 3 of 4, and no whole number in per cent
        ('{"exact": 0.5, "f1": 0.8, "total": 200}', 0.5),  # 1 of 200
        ('{"exact_match": 0.75, "f1": 0.8}', 0.75),  # SQuAD's script, which prints per cent
        ('{"eval_exact_match": 0.75, "eval_f1": 0.8}', 75.0),
        ("eval_exact_match = 0.75, eval_f1 = 0.8", 75.0),
        ("exact_match: 75.5 f1: 80.5", 75.5),
    ],
)
def test_scores_are_in_per_cent(log: Reader, line: str, exact: float) -> None:
    assert log(line).scores["exact"] == exact


def test_the_batch_of_a_command_line(log: Reader) -> None:
    command = "python run_squad.py --train_batch_size=4 --num_accumulation_steps=2 --iterations_per_loop=100"
    curve = log(command, *hook(5.0, 4.0)[::3])
    assert curve.points[1][:2] == (200, 1600) and "one device" in told(curve)
    several = "device: cuda n_gpu: 1, distributed training: True, 16-bits training: True"
    assert log(command, several, *hook(5.0)[::3]).global_batch is None
