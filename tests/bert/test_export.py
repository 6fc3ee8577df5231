"""What export writes is what other programs read."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from bert import backend as backends
from bert import export, names, predictor
from bert.checkpoints import reader
from bert.cluster import Cluster
from bert.config import BertConfig
from tests.bert.runs import MODEL, settings, step_batches, train
from tests.launching import ROOT

KEYS = ("input_ids", "input_mask", "segment_ids")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("trained")
    return train(folder, settings(num_train_steps=2, gelu="tanh")).checkpoint


def _inputs() -> dict[str, np.ndarray]:
    batch = next(step_batches(9))
    return {key: batch[key] for key in KEYS}


def _logits(path: str, config: BertConfig, gelu: str, inputs: dict[str, np.ndarray]) -> tuple[Any, Any]:
    backend = backends.create(Cluster(), "cpu")
    [logits] = predictor.predict(config, path, iter([inputs]), backend, gelu)
    return logits


def test_exported_safetensors_load_again_with_the_same_values(trained: str, tmp_path: Path) -> None:
    assert export.main([trained, str(tmp_path / "hf")]) == 0
    before = dict(reader.read(trained))
    after = dict(reader.read(str(tmp_path / "hf")))
    assert set(after) == set(names.shapes(MODEL))
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name])
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    # The checkpoint says that it was trained with the tanh approximation.
    assert (config["hidden_act"], config["model_type"]) == ("gelu_new", "bert")
    assert config["architectures"] == ["BertForQuestionAnswering"]
    assert BertConfig.from_dict(config) == dataclasses.replace(MODEL, hidden_act="gelu_new")


def test_a_saved_model_gives_the_same_logits_by_name(trained: str, tmp_path: Path) -> None:
    inputs, folder = _inputs(), str(tmp_path / "saved")
    assert export.main([trained, folder, "--format", "saved_model"]) == 0
    with tf.Graph().as_default(), tf.Session() as session:
        loaded = tf.saved_model.load(session, ["serve"], folder)
        signature = loaded.signature_def["serving_default"]
        assert sorted(signature.inputs) == sorted(KEYS)
        outputs = {name: info.name for name, info in signature.outputs.items()}
        feed = {signature.inputs[key].name: inputs[key] for key in KEYS}
        served = session.run(outputs, feed)
    for name, logits in zip(("start_logits", "end_logits"), _logits(trained, MODEL, "tanh", inputs)):
        np.testing.assert_allclose(served[name], logits, rtol=1e-5, atol=1e-6)


def test_export_refuses_what_it_cannot_use_in_one_line(
    trained: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    cases = [
        ([trained, str(tmp_path)], "exists; give a new folder"),
        ([str(tmp_path / "none"), str(tmp_path / "x")], "none: no checkpoint; give a prefix"),
        ([trained, str(tmp_path / "x"), "--static", "1x8"], "--static: safetensors has no fixed shape"),
    ]
    for words, message in cases:
        assert export.main(words) == 2
        said = capfd.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_export_removes_nothing_that_was_there(trained: str, tmp_path: Path) -> None:
    (tmp_path / "x.tmp").mkdir()
    (tmp_path / "x.tmp" / "mine").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert export.main([trained, str(tmp_path / "new" / "x")]) == 0
    assert export.main([trained, str(tmp_path / "x")]) == 0
    assert export.main([trained, str(tmp_path / "link")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "new", "x", "x.tmp"]
    assert (tmp_path / "x.tmp" / "mine").exists()
    assert (tmp_path / "link").is_symlink()


def test_pretrained_weights_without_a_head_are_not_exported(
    minilm: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    assert export.main([str(minilm), str(tmp_path / "x")]) == 2
    assert (
        "lacks cls/squad/output_bias, cls/squad/output_weights; fine-tune it first" in capfd.readouterr().err
    )


def test_the_command_writes_vocabulary_and_weights(trained: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    code = "from launcher.commands.export import export; export()"
    words = [trained, str(tmp_path / "hf"), "--vocab", str(tmp_path / "vocab.txt")]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=str(ROOT), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"wrote %s" % str(tmp_path / "hf").encode() in done.stdout
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == [
        "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt",
    ]  # fmt: skip


def test_transformers_reads_the_export_and_gives_the_same_logits(trained: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    inputs, folder = _inputs(), str(tmp_path / "hf")
    export.export(trained, folder, MODEL, gelu="tanh")
    model, info = transformers.BertForQuestionAnswering.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    theirs = _torch_logits(torch, model.eval(), inputs)
    for mine, other in zip(_logits(trained, MODEL, "tanh", inputs), theirs):
        np.testing.assert_allclose(mine, other, atol=1e-4)


def _torch_logits(torch: Any, model: Any, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    given = {key: torch.tensor(inputs[key].astype(np.int64)) for key in KEYS}
    with torch.no_grad():
        made = model(
            input_ids=given["input_ids"], attention_mask=given["input_mask"],
            token_type_ids=given["segment_ids"],
        )  # fmt: skip
    return made.start_logits.numpy(), made.end_logits.numpy()


@pytest.mark.slow
def test_minilm_gives_the_logits_of_transformers(minilm: Path, tmp_path: Path) -> None:
    """The head is new: transformers makes one, and export's counterpart reads it."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.BertForQuestionAnswering.from_pretrained(str(minilm)).eval()
    model.save_pretrained(str(tmp_path / "hf"), safe_serialization=True)
    random = np.random.RandomState(0)
    config = BertConfig.from_file(str(minilm / "config.json"))
    mask = (np.arange(96) < np.array([[96], [40], [71]])).astype(np.int32)
    inputs = {
        "input_ids": random.randint(0, config.vocab_size, (3, 96)).astype(np.int32) * mask,
        "input_mask": mask, "segment_ids": (np.arange(96) > 12).astype(np.int32) * mask,
    }  # fmt: skip
    theirs = _torch_logits(torch, model, inputs)
    for mine, other in zip(_logits(str(tmp_path / "hf"), config, "exact", inputs), theirs):
        np.testing.assert_allclose(mine * mask, other * mask, atol=1e-3)
