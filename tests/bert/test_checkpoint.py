"""Checkpoints of Google's, NVIDIA's, HF's and our own making, and those that do not fit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Callable, Dict

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from safetensors.numpy import load_file, save_file

from bert import backend as backends
from bert import names, predictor
from bert.checkpoints import index, inspection, reader
from bert.checkpoints.headers import Entry
from bert.checkpoints.reader import Loaded, Reading
from bert.cluster import Cluster
from bert.config import BertConfig
from bert.errors import CheckpointError
from bert.export import find_config
from bert.model import create_variables
from bert.optimizer import Optimizer, OptimizerConfig
from tests.bert.runs import MODEL, settings, train

Values = Dict[str, np.ndarray]


def _values(config: BertConfig = MODEL) -> Values:
    random = np.random.RandomState(3)
    shapes = names.shapes(config, pooler=True)
    return {name: random.randn(*shape).astype(np.float32) for name, shape in shapes.items()}


def _tensorflow(folder: Path, values: Values) -> str:
    """Write a checkpoint as a program with other variables than ours would."""
    folder.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value, name=name.replace("/", "-")) for name, value in values.items()}
        session.run(tf.global_variables_initializer())
        return str(tf.train.Saver(variables).save(session, str(folder / "bert_model.ckpt")))


def _hf(folder: Path, values: Values, prefix: str = "bert.") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    held = {}
    for google, value in values.items():
        name, transposed = names.to_hf(google)
        assert name, google
        held[prefix + name[5:] if name.startswith("bert.") else name] = value.T if transposed else value
    save_file({n: np.ascontiguousarray(v) for n, v in held.items()}, str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps(dict(dataclasses.asdict(MODEL), model_type="bert")))
    return str(folder)


def _load(path: str) -> tuple[Loaded, Values]:
    with tf.Graph().as_default(), tf.Session() as session:
        variables = create_variables(MODEL)
        loaded = reader.initialize(session, variables, Reading(path))
        return loaded, reader.values(session, variables)


def test_names_translate_to_hf_and_back() -> None:
    for name in names.shapes(MODEL, pooler=True):
        theirs, transposed = names.to_hf(name)
        assert names.from_hf(theirs) == (name, transposed)
    assert names.to_hf("global_step") == names.to_hf("bert/encoder/layer_0/new/kernel") == ("", False)


def test_tensorflow_checkpoints_load_with_slots_and_without(tmp_path: Path) -> None:
    values = _values()
    slots = {f"{name}/{slot}": value for name, value in values.items() for slot in ("adam_m", "adam_v")}
    path = _tensorflow(tmp_path, {**values, **slots, "global_step": np.int64(8200), "cls/other": np.zeros(1)})
    reader.check(path, MODEL)
    loaded, held = _load(path)
    for name, value in held.items():
        np.testing.assert_array_equal(value, values[name])
    assert not loaded.missing
    assert loaded.lines()[1:] == [
        f"in it, not used: {len(slots) + 1} optimizer slots",
        "in it, not used: 3: bert/pooler/dense/bias, bert/pooler/dense/kernel, cls/other",
    ]


def test_a_training_begins_with_zero_moments_that_no_graph_holds_as_constants(tmp_path: Path) -> None:
    """Those of a foreign checkpoint are another training's; folded zeros would be held a second time."""
    values = _values()
    slots = {f"{name}/{slot}": value for name, value in values.items() for slot in ("adam_m", "adam_v")}
    path = _tensorflow(tmp_path, {**values, **slots, "global_step": np.int64(8200)})
    fed = {}
    with tf.Graph().as_default(), tf.Session() as session:
        weights = create_variables(MODEL)
        moments = Optimizer(OptimizerConfig(), list(weights.values())).slots
        total = tf.get_variable("accumulator_0", [3, 4], tf.float32, tf.zeros_initializer())
        scale = tf.get_variable("loss_scale", [], tf.float32, tf.constant_initializer(8.0))
        run = session.run
        session.run = lambda fetches, feed=None: fed.update(feed or {}) or run(fetches, feed)
        loaded = reader.initialize(session, {**weights, **moments}, Reading(path, slots=False))
        session.run = run
        for name, value in reader.values(session, {**moments, "total": total}).items():
            assert not value.any(), name
        assert session.run(scale) == 8.0
        starts = {variable.initializer.inputs[1].name for variable in [*moments.values(), total]}
        assert starts <= {tensor.name for tensor in fed}
    assert not loaded.missing and set(slots) < set(loaded.unused)


@pytest.mark.parametrize("prefix", ["bert.", "", "module.bert.", "model.", "module._orig_mod.bert."])
def test_safetensors_load_from_a_folder_and_from_a_file(tmp_path: Path, prefix: str) -> None:
    values = _values()
    folder = _hf(tmp_path, values, prefix)
    for path in (folder, str(tmp_path / "model.safetensors")):
        reader.check(path, MODEL)
        loaded, held = _load(path)
        assert not loaded.missing
        for name, value in held.items():
            np.testing.assert_array_equal(value, values[name])
    assert find_config(folder, "", {}) == MODEL
    wrapped = prefix.replace("bert.", "")
    notes = inspection.inspect(folder, MODEL).notes
    assert notes == ((f"its names begin with {wrapped!r}, which is left out",) if wrapped else ())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert.embeddings_project.weight", "is an ELECTRA; give the weights of a BERT"),
        ("discriminator_predictions.dense.weight", "is an ELECTRA"),
        ("bert.encoder.relative_attention_bias.weight", "is a model with relative positions"),
        ("lm_head.layer_norm.weight", "is a RoBERTa"),
        ("bert.encoder.layer.0.adapter.down.weight", "which a BERT does not have"),
        ("bert.encoder.layer.0.output.dense.weight_scale", "which a BERT does not have"),
        ("bert.embeddings.task_type_embeddings.weight", "which a BERT does not have"),
        ("bert/encoder/layer_0/output/dense/mask", "which a BERT does not have"),
        ("bert.embeddings.position_ids", ""),
        ("cls.predictions.transform.dense.weight", ""),
        ("bert/encoder/layer_0/output/dense/kernel/LAMB", ""),
        ("bert/embeddings/word_embeddings/ExponentialMovingAverage", ""),
    ],
)
def test_variables_that_would_not_be_computed_are_refused(tmp_path: Path, name: str, message: str) -> None:
    folder = _hf(tmp_path, _values())
    path = tmp_path / "model.safetensors"
    save_file({**load_file(str(path)), name: np.zeros((1, 2), np.float32)}, str(path))
    problems = inspection.inspect(folder, MODEL).problems
    assert [message in problem for problem in problems] == ([True] if message else [])


def test_a_checkpoint_in_several_files_loads_whole(tmp_path: Path) -> None:
    values = _values()
    _hf(tmp_path, values)
    held = load_file(str(tmp_path / "model.safetensors"))
    (tmp_path / "model.safetensors").unlink()
    weight_map = {
        name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(held)
    }
    for file in set(weight_map.values()):
        part = {name: held[name] for name in held if weight_map[name] == file}
        save_file(part, str(tmp_path / file))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    reader.check(str(tmp_path), MODEL)
    loaded, mine = _load(str(tmp_path))
    assert not loaded.missing and set(mine) == set(loaded.used)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names model-00002-of-00002\.safetensors, missing"):
        reader.check(str(tmp_path), MODEL)


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    data = np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data.astype("<u2").tobytes())
    [(name, value)] = reader.read(str(path))
    assert name == "a" and value.tolist() == [1.5, -2.0]


def test_what_is_missing_is_new_and_named(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    values = {name: value for name, value in _values().items() if name not in names.HEAD}
    train(tmp_path, settings(num_train_steps=1), init_checkpoint=_tensorflow(tmp_path / "init", values))
    assert "not in it, so new: cls/squad/output_bias, cls/squad/output_weights" in capfd.readouterr().out


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vocab_size": 41}, "word_embeddings has shape .40, 16., the configuration says .41, 16."),
        ({"hidden_size": 32}, "has shape .40, 16., the configuration says .40, 32"),
        ({"num_hidden_layers": 2}, "lacks 16 variables that the configuration requires"),
        ({"num_hidden_layers": 0}, "holds 1 layers, the configuration says 0"),
    ],
)
def test_a_checkpoint_that_does_not_fit_ends_the_run_before_any_step(
    tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    path = _tensorflow(tmp_path / "init", _values())
    with pytest.raises(CheckpointError, match=message):
        train(tmp_path, settings(), model=dataclasses.replace(MODEL, **changes), init_checkpoint=path)
    assert not (tmp_path / "rank0" / "metrics.jsonl").exists()


def _damages(folder: Path) -> list[tuple[Path, str]]:
    return [
        (folder / "none", "no checkpoint"),
        (folder / "index.index", "sstable"),
        (folder / "header.safetensors", "damaged safetensors"),
        (folder / "cut.safetensors", "damaged"),
    ]


def test_damaged_files_are_refused_with_their_names(tmp_path: Path) -> None:
    _hf(tmp_path / "hf", _values())
    whole = (tmp_path / "hf" / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-1000])
    (tmp_path / "header.safetensors").write_bytes(b"{}")
    (tmp_path / "index.index").write_bytes(b"nothing" * 20)
    for path, message in _damages(tmp_path):
        with pytest.raises(CheckpointError, match=message) as caught:
            list(reader.read(str(path)))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_damage_found_while_the_graph_is_built_ends_the_training(tmp_path: Path) -> None:
    """Names and sizes fit, so nothing is wrong before; the values are read in another thread."""
    before = train(tmp_path / "a", settings(num_train_steps=1)).checkpoint
    data = Path(before + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match="sha256"):
        train(tmp_path, settings(), init_checkpoint=before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1000], "damaged safetensors: truncated, has"),
        (lambda data: data[:100], "damaged safetensors: truncated, has 100 of"),
        (lambda data: data + b"more", "damaged safetensors: 4 bytes too long"),
        (lambda data: b"", "damaged safetensors: the file is empty"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_safetensors_that_are_not_whole_are_seen_before_anything_starts(
    tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    _hf(tmp_path / "hf", _values())
    held = tmp_path / "hf" / "model.safetensors"
    held.write_bytes(change(held.read_bytes()))
    with pytest.raises(CheckpointError, match=f"hf: {message}"):
        train(tmp_path, settings(), init_checkpoint=str(tmp_path / "hf"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.unlink(), r"data-00000-of-00001: missing; copy all files"),
        (lambda data: data.write_bytes(data.read_bytes()[:-1]), r"data-00000-of-00001: truncated, has"),
        (lambda data: data.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    ],
)
def test_data_files_that_are_not_whole_are_seen_before_anything_starts(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    path = _tensorflow(tmp_path, _values())
    change(Path(path + ".data-00000-of-00001"))
    with pytest.raises(CheckpointError, match=message):
        reader.check(path, MODEL)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"_CHECKPOINTABLE_OBJECT_GRAPH": 1}, "is a TensorFlow 2 object checkpoint; write it"),
        ({"model/w/.ATTRIBUTES/VARIABLE_VALUE": 1}, "is a TensorFlow 2 object checkpoint"),
        ({"bert/encoder/transformer/group_0/inner_group_0/x": 1}, "is an ALBERT"),
        ({"electra/embeddings/word_embeddings": 1}, "holds the variables of electra"),
        ({"module.roberta.embeddings.word_embeddings.weight": 1}, "holds the variables of roberta"),
        ({"linear.weight": 1}, "lacks bert/embeddings/word_embeddings, .*; it holds linear.weight; give"),
        ({"bert.encoder.layer.0.attention.self.distance_embedding.weight": 1}, "relative positions"),
        ({"base_model.model.lora_A.weight": 1}, "an adapter .LoRA., not a whole model; merge it"),
        ({}, "it holds nothing"),
    ],
)
def test_what_is_no_bert_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: dict[str, int], message: str
) -> None:
    entries = {name: Entry("F32", (2, 2)) for name in held}
    monkeypatch.setattr(index, "entries", lambda path: entries)
    with pytest.raises(CheckpointError, match=message):
        reader.check(str(tmp_path), MODEL)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_of_other_floats_are_loaded_as_float32(tmp_path: Path, kind: type) -> None:
    values = {name: value.astype(kind) for name, value in _values().items()}
    _, held = _load(_hf(tmp_path, values))
    for name, value in held.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, values[name].astype(np.float32))


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    values = {name: value.astype(np.int8) for name, value in _values().items()}
    with pytest.raises(CheckpointError, match=r"has values of type I8; give weights in F64, F32, F16, BF16"):
        reader.check(_hf(tmp_path, values), MODEL)


def test_a_table_padded_after_its_configuration_was_written_is_explained(tmp_path: Path) -> None:
    path = _hf(tmp_path, _values())
    with pytest.raises(CheckpointError, match=r"if the last rows are padding, set its vocab_size to 40"):
        reader.check(path, dataclasses.replace(MODEL, vocab_size=38))


def test_slots_that_are_not_wanted_are_not_held(tmp_path: Path) -> None:
    path = train(tmp_path, settings(num_train_steps=2)).checkpoint
    whole, bare = (dict(Reading(path, slots).take()) for slots in (True, False))
    assert set(whole) == set(bare)
    for name, value in bare.items():
        assert value.size == (0 if names.is_slot(name) else whole[name].size), name


def test_what_is_written_restores_into_googles_variables(tmp_path: Path) -> None:
    """google-research/bert's graph has the pooler and slots of the trained variables; Saver wants all."""
    prefix = train(tmp_path, settings(num_train_steps=2)).checkpoint
    held = index.describe(prefix)
    expected = names.shapes(MODEL, pooler=True)
    assert {name: held[name] for name in expected} == expected
    slots = {f"{n}/{slot}" for n in names.shapes(MODEL) for slot in ("adam_m", "adam_v")}
    assert set(held) == set(expected) | slots | {"global_step"}
    assert tf.train.latest_checkpoint(str(tmp_path / "out")) == prefix
    assert int(dict(reader.read(prefix))["global_step"]) == 2


def test_the_pooler_of_an_init_checkpoint_is_kept(tmp_path: Path) -> None:
    values = _values()
    path = _tensorflow(tmp_path / "init", values)
    written = dict(
        reader.read(train(tmp_path, settings(num_train_steps=1), init_checkpoint=path).checkpoint)
    )
    for name in names.POOLER:
        np.testing.assert_array_equal(written[name], values[name])


def test_predicting_refuses_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    path = _tensorflow(tmp_path, _values())
    other = dataclasses.replace(MODEL, vocab_size=50)
    with pytest.raises(CheckpointError, match="word_embeddings"):
        next(predictor.predict(other, path, iter([]), backends.create(Cluster(), "cpu")))


def test_the_weights_of_minilm_load_whole(minilm: Path, tmp_path: Path) -> None:
    config = BertConfig.from_file(str(minilm / "config.json"))
    reader.check(str(minilm), config)
    held = dict(reader.read(str(minilm)))
    assert set(names.shapes(config)) - set(held) == set(names.HEAD)
    shutil.rmtree(str(tmp_path))
