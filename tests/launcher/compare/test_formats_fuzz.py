"""No text and no bytes make a reader of logs raise anything but ReadError."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.compare.align import align
from launcher.compare.curve import Curve
from launcher.compare.formats import read
from launcher.compare.formats.lines import TABLE

GOLDEN = Path(__file__).with_name("golden")
LINES = [line for path in sorted(GOLDEN.glob("*.log")) for line in path.read_bytes().splitlines()[:40]] + [
    b"Step =      1 Throughput =        12.5 Loss =  6.000000 LR = 5.0000e-08",
    b"[Rank =  0 :: ]Step = 1 Throughput = 1.0 MLM Loss = 7 NSP Loss = 1 Loss = 8 Average Loss = 9 LR = 1e-4",
    b"epoch: 1 step: 2, loss is 2.5",
    b"{ Epoch:[  1/  2], step:[  100/  500], loss: 7.500, per_step_time: 500ms, lr: 1e-05,",
    b"{'loss': 0.5, 'grad_norm': 1.5, 'learning_rate': 1e-05, 'epoch': 0.1}",
    b'{"current_steps": 10, "total_steps": 99, "loss": 0.5, "lr": 1e-05, "elapsed_time": "0:00:12"}',
    b'{"step": 10, "loss": null, "examples_per_second": 5, "examples_per_second_per_device": 1}',
    b'DLLL {"timestamp": "1.5", "type": "LOG", "step": [0, 10], "data": {"step_loss": 2.5, "Rank": 0}}',
    b"DLL 2021-06-14 23:08:53.659718 - Iteration: 100  total_loss : 2.5  learning_rate : 1e-05",
    b"step 25/480  epoch 0.57  loss 0.5  lr 3e-05  14.7 examples/s (7.35 per device)",
    b"trained to step 50: 400 examples in 3 min 26 s; 18.67 examples/s with overhead, 9.34 per device",
    b"hvd.size() = 8 hvd.rank() = 0",
    b"***** Configuaration *****",
    b"  train_batch_size: 4",
    b"BatchSize = 32",
    b"ActualFPS = 1000.5",
]
NUMBERS = [
    b"0",
    b"-1",
    b"nan",
    b"-inf",
    b"1e999",
    b"9" * 400,
    b"1e-400",
    b"",
    b"null",
    b"1_0",
    b"\xff",
    b"\0",
]
Change = Tuple[int, int, bytes]  # place, bytes that go, bytes that come


def mutated(line: bytes, change: Change) -> bytes:
    place, count, into = change
    at = place % (len(line) + 1)
    return line[:at] + into + line[at + count :]


changes = st.tuples(st.integers(0, 200), st.integers(0, 8), st.sampled_from(NUMBERS) | st.binary(max_size=4))
mutations = st.builds(mutated, st.sampled_from(LINES), changes)
words = st.builds(bytes.__add__, st.sampled_from([word for word, _ in TABLE]), st.binary(max_size=20))
texts = st.lists(st.sampled_from(LINES) | mutations | words, max_size=30).map(b"\n".join)
FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)


def check(path: Path, data: bytes) -> Curve:
    path.write_bytes(data)
    curve = read(path)
    assert all(point.step is None or point.step >= 0 for point in curve.points)
    steps = [point.step for point in curve.points if point.step is not None]
    assert steps == sorted(set(steps))
    assert all(0 <= value <= 100 for value in curve.scores.values())
    align(curve, curve)
    return curve


@FUZZ
@given(texts)
def test_mutated_lines(tmp_path: Path, data: bytes) -> None:
    check(tmp_path / "a", data)


@FUZZ
@given(
    st.sampled_from(["events_tf1.tfevents", "events_tf2.tfevents", "trainer_state.json"]), changes, changes
)
def test_mutated_files(tmp_path: Path, name: str, first: Change, then: Change) -> None:
    data = (GOLDEN / name).read_bytes()
    check(tmp_path / "a", mutated(mutated(data, first), then))


@pytest.mark.parametrize(
    "text", [b"[" * 100000, b'{"step": 1, "loss": ' + b"[" * 100000, b'{"step": ' + b"9" * 99999]
)
def test_json_that_no_parser_survives(tmp_path: Path, text: bytes) -> None:
    check(tmp_path / "a", text + b', "loss": 1}\n')
