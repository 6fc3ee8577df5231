"""The main job, whole: npu-launch, rank table, ranks, training, prediction, evaluation, gathering."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

import pytest

from tests.launching import ROOT, latest, launch

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "initializer_range": 0.05,
}


def metrics(run: Path, rank: int = 0) -> list[dict[str, Any]]:
    """Read a rank's metrics, one dict a line."""
    path = run / "ranks" / str(rank) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses(run: Path, rank: int = 0) -> list[float]:
    return [line["loss"] for line in metrics(run, rank) if "loss" in line]


@pytest.fixture(scope="module")
def tiny_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data set, a vocabulary and a small BERT's configuration, and a job over them."""
    folder = tmp_path_factory.mktemp("tiny")
    make = [sys.executable, str(ROOT / "examples" / "make_squad_demo.py"), "--output", str(folder)]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    text = (folder / "train.json").read_text(encoding="utf-8").lower()
    letters = sorted({letter for letter in text if not letter.isspace()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (folder / "bert_config.json").write_text(json.dumps(dict(TINY, vocab_size=len(tokens))))
    (folder / "job.yaml").write_text(
        "job: tiny\nprogram: squad.run_squad\nargs:\n"
        "  train_file: train.json\n  predict_file: dev.json\n"
        "  vocab_file: vocab.txt\n  bert_config_file: bert_config.json\n"
        "  do_train: true\n  version_2_with_negative: true\n"
        "  max_seq_length: 64\n  doc_stride: 32\n  max_query_length: 24\n"
        "  global_batch_size: 8\n  learning_rate: 1.0e-3\n  num_train_steps: 30\n"
        "  display_loss_steps: 1\n  npu_bert_debug: true\n"
    )
    return folder


def final_weights(run: Path) -> dict[str, Any]:
    import tensorflow.compat.v1 as tf

    prefix = run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()
    reader = tf.train.NewCheckpointReader(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def trained(job: Path, devices: str) -> tuple[list[float], dict[str, Any]]:
    """Train on some devices; return the losses and the weights."""
    done = launch(job, "--devices", devices, "--backend", "cpu", "job.yaml", timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return losses(latest(job)), final_weights(latest(job))


@pytest.fixture(scope="module")
def one_device(tiny_job: Path) -> tuple[list[float], dict[str, Any]]:
    return trained(tiny_job, "0")


SLOW = [pytest.param(devices, marks=pytest.mark.slow) for devices in ("0-3", "0-7")]


@pytest.mark.tensorflow
@pytest.mark.parametrize("devices", ["0-1", *SLOW])
def test_several_devices_follow_the_losses_of_one(tiny_job: Path, one_device: Any, devices: str) -> None:
    import numpy as np

    (curve, weights), (wanted, others) = trained(tiny_job, devices), one_device
    assert len(curve) == len(wanted) == 30
    np.testing.assert_allclose(curve, wanted, rtol=1e-4)
    assert sorted(weights) == sorted(others)
    for name, value in others.items():
        # A constant added to all logits changes no loss: what moves this bias is rounding alone.
        least = 1e-2 if name == "cls/squad/output_bias" else 1e-5
        np.testing.assert_allclose(weights[name], value, rtol=1e-3, atol=least, err_msg=name)


@pytest.mark.tensorflow
def test_train_predict_and_evaluate_leave_a_complete_run_folder(tiny_job: Path) -> None:
    done = launch(
        tiny_job, "--devices", "0-1", "--backend", "cpu", "job.yaml",
        "num_train_steps=4", "do_predict=True", "gather=[metrics.jsonl]", timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = latest(tiny_job)
    manifest = json.loads((run / "checkpoints" / "manifest.json").read_text())
    assert "model.ckpt-4" in json.dumps(manifest) and "sha256" in json.dumps(manifest)
    answers = json.loads((run / "predictions" / "predictions.json").read_text())
    questions = [
        question["id"]
        for article in json.loads((tiny_job / "dev.json").read_text())["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    assert sorted(answers) == sorted(questions)
    figures = json.loads((run / "result.json").read_text())["metrics"]
    assert {"exact", "f1", "HasAns_f1", "NoAns_f1"} <= set(figures)
    assert "F1" in done.stdout and "npu-launch logs" in done.stdout
    assert len(list(run.glob("gathered/rank_*/metrics.jsonl"))) == 2


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.yaml")))
def test_every_example_makes_a_plan(tiny_job: Path, tmp_path: Path, name: str) -> None:
    done = launch(
        ROOT, "--devices", "0-1", "--backend", "cpu", "--dry-run", ROOT / "examples" / name,
        f"runs_dir={tmp_path / 'runs'}",
        "init_checkpoint=", f"vocab_file={tiny_job / 'vocab.txt'}",
        f"bert_config_file={tiny_job / 'bert_config.json'}", "max_seq_length=128",
        f"train_file={tiny_job / 'train.json'}", f"predict_file={tiny_job / 'dev.json'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RANK_ID" in done.stdout and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_real_questions_and_pretrained_weights_halve_the_loss(
    shared: Path, minilm: Path, tmp_path: Path
) -> None:
    done = launch(
        tmp_path, "--devices", "0-1", "--backend", "cpu", ROOT / "examples" / "squad2.yaml",
        f"init_checkpoint={minilm}",
        f"train_file={shared / 'data' / 'squad2' / 'train.json'}",
        "do_predict=False", "predict_file=", "max_seq_length=192", "batching=bucket", "global_batch_size=16",
        "preset=google", "version_2_with_negative=True", "learning_rate=2e-4", "gelu=exact",  # MiniLM's form
        "num_train_steps=60", "display_loss_steps=1", timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    curve = losses(latest(tmp_path))
    assert len(curve) == 60
    assert sum(curve[-10:]) / 10 < curve[0] / 2


def test_a_note_of_the_programs_check_is_shown_and_stops_nothing(tiny_job: Path) -> None:
    done = launch(
        tiny_job, "--devices", "0-1", "--backend", "cpu", "--dry-run", "job.yaml", "triton_engine_count=1"
    )
    assert done.returncode == 0, done.stderr
    assert "note: triton_engine_count: has no effect; nothing is exported for Triton" in done.stdout


BAD: Sequence[Any] = (
    (["--devices", "8-3"], "8-3"),
    (["--devices", "0,0"], "0"),
    (["--devices", "a"], "a"),
    (["--devices", ""], "devices"),
    (["train_file=nowhere.json"], "train_file"),
    (["max_seq_length=long"], "max_seq_length"),
    (["lerning_rate=1"], "learning_rate"),
)


@pytest.mark.parametrize(("words", "named"), BAD)
def test_bad_input_is_one_line_and_nothing_is_written(tiny_job: Path, words: list[str], named: str) -> None:
    runs_before = sorted(tiny_job.glob("runs/*"))
    devices = () if words[0] == "--devices" else ("--devices", "0")
    done = launch(tiny_job, "--backend", "cpu", *devices, *words, "job.yaml")
    assert done.returncode == 2
    assert named in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(tiny_job.glob("runs/*")) == runs_before


def test_missing_files_are_all_listed_at_once(tiny_job: Path) -> None:
    done = launch(tiny_job, "--devices", "0", "job.yaml", "train_file=a.json", "vocab_file=b.txt")
    assert done.returncode == 2
    assert "a.json" in done.stderr and "b.txt" in done.stderr


def test_a_vocabulary_of_another_model_is_refused(tiny_job: Path, tmp_path: Path) -> None:
    vocab = tmp_path / "vocab.txt"
    words = [f"word{number}" for number in range(5000)]
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]))
    done = launch(tiny_job, "--devices", "0", "job.yaml", f"vocab_file={vocab}")
    assert done.returncode == 2 and "vocab_size" in done.stderr


def test_a_checkpoint_of_another_shape_is_refused(tiny_job: Path, minilm: Path) -> None:
    done = launch(tiny_job, "--devices", "0", "job.yaml", f"init_checkpoint={minilm}")
    assert done.returncode == 2 and "init_checkpoint" in done.stderr and "shape" in done.stderr
