"""An exported .onnx file computes what TensorFlow computes, in any shape, and says what was checked."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bert.runs import MODEL, settings, train

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from bert import backend as backends  # noqa: E402  (after what may be missing)
from bert import environment, export, predictor  # noqa: E402
from bert import names as variables  # noqa: E402
from bert.cluster import Cluster  # noqa: E402
from bert.config import BertConfig  # noqa: E402
from bert.errors import CheckpointError  # noqa: E402
from bert.onnx import atc, graph, session, shape, writing  # noqa: E402


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train(tmp_path_factory.mktemp("trained"), settings(num_train_steps=2, gelu="tanh")).checkpoint


@pytest.fixture(scope="module")
def exported(trained: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    assert export.main([trained, str(folder), "--format", "onnx"]) == 0
    return folder


def _random(config: BertConfig) -> Any:
    random = np.random.RandomState(1)
    shapes = variables.shapes(config).items()
    return {name: (random.randn(*shape) * 0.5).astype(np.float32) for name, shape in shapes}


def _run(model: Any, folder: Path, batch: Any) -> Any:
    writing.save(model, str(folder / "model.onnx"))
    with session.open(str(folder)) as opened:
        return opened.run(batch)


def _tensorflow(path: str, batch: Any, gelu: str) -> Any:
    backend = backends.create(Cluster(), "cpu")
    [logits] = predictor.predict(MODEL, path, iter([batch]), backend, gelu)
    return logits


def test_logits_equal_those_of_tensorflow_in_every_shape(trained: str, exported: Path) -> None:
    for rows, columns in ((1, 1), (3, 7), (2, MODEL.max_position_embeddings)):
        [batch] = writing.samples(MODEL, (rows, columns))
        with session.open(str(exported)) as opened:
            for theirs, ours in zip(opened.run(batch), _tensorflow(trained, batch, "tanh")):
                np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_the_golden_logits_of_googles_bert_are_reproduced(golden: Path, tmp_path: Path) -> None:
    from bert.checkpoints import reader

    folder = golden / "bert"
    config = BertConfig.from_file(str(folder / "bert_config.json"))
    weights = dict(reader.read(str(folder / "bert_model.ckpt")))
    with np.load(str(folder / "answers.npz")) as answers:
        batch = {name: answers[name] for name in predictor.KEYS}
        logits = _run(graph.build(config, weights, "tanh"), tmp_path, batch)
        for made, side in zip(logits, ("start_logits", "end_logits")):
            np.testing.assert_allclose(made, answers[side], atol=1e-4)


def test_the_forms_of_gelu_and_epsilons_differ(tmp_path: Path) -> None:
    weights, made = _random(MODEL), []
    [batch] = writing.samples(MODEL, (2, 8))
    for config in (MODEL, dataclasses.replace(MODEL, layer_norm_eps=0.5)):
        for gelu in ("exact", "tanh"):
            made.append(_run(graph.build(config, weights, gelu), tmp_path, batch)[0])
    different = [np.abs(one - other).max() for i, one in enumerate(made) for other in made[:i]]
    assert min(different) > 1e-6 and all(np.isfinite(made[0].ravel()))


def test_onnxruntime_computes_attention_norm_and_gelu_in_one_piece(tmp_path: Path) -> None:
    """The graph's forms are those that it recognises; otherwise it is half as fast."""
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    for gelu in ("exact", "tanh"):
        options.optimized_model_filepath = str(tmp_path / gelu)
        content = graph.build(MODEL, _random(MODEL), gelu).SerializeToString()
        runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        kinds = [node.op_type for node in onnx.load(str(tmp_path / gelu)).graph.node]
        layers = MODEL.num_hidden_layers
        assert kinds.count("Attention") == layers
        assert kinds.count("LayerNormalization") + kinds.count("SkipLayerNormalization") == 2 * layers + 1
        assert sum("Gelu" in kind for kind in kinds) == layers


def test_a_file_of_fixed_shape_takes_what_fits(trained: str, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fixed"
    assert export.main([trained, str(folder), "--format", "onnx", "--static", "2x12"]) == 0
    [batch] = writing.samples(MODEL, (5, 9))
    with session.open(str(folder)) as fixed, session.open(str(exported)) as free:
        assert (fixed.columns, free.columns) == (12, None)
        for one, other in zip(fixed.run(batch), free.run(batch)):
            assert one.shape == (5, 9)
            np.testing.assert_allclose(one, other, atol=1e-5)
        [wide] = writing.samples(MODEL, (1, 13))
        with pytest.raises(ValueError, match=r"13 tokens, the \.onnx file is made for 12"):
            fixed.run(wide)


@pytest.mark.parametrize("sizes", [(3, None), (None, 12), (3, 12)])
def test_rows_or_columns_may_be_fixed(exported: Path, tmp_path: Path, sizes: Any) -> None:
    model = onnx.load(str(exported / "model.onnx"))
    for entry in model.graph.input:
        for dim, size in zip(entry.type.tensor_type.shape.dim, sizes):
            if size:
                dim.dim_value = size
    onnx.save(model, str(tmp_path / "model.onnx"))
    assert shape.columns(str(tmp_path / "model.onnx")) == sizes[1]
    [batch] = writing.samples(MODEL, (5, 9))
    with session.open(str(tmp_path)) as fixed, session.open(str(exported)) as free:
        assert (fixed.columns, fixed.padded) == (sizes[1], sizes[1] is not None)
        for one, other in zip(fixed.run(batch), free.run(batch)):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_columns_are_known_without_onnxruntime_whatever_the_file_is(exported: Path, tmp_path: Path) -> None:
    whole = (exported / "model.onnx").read_bytes()
    assert shape.columns(str(exported / "model.onnx")) is None
    for content in (b"", b"no model", b"\xff" * 99, whole[: len(whole) // 2], whole[:-9]):
        (tmp_path / "x.onnx").write_bytes(content)
        assert shape.columns(str(tmp_path / "x.onnx")) is None
    assert shape.columns(str(tmp_path / "nothere.onnx")) is None


def test_names_types_and_versions_are_those_that_others_read(exported: Path) -> None:
    model = onnx.load(str(exported / "model.onnx"))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 11)]
    assert model.ir_version == 6
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [value.name for value in model.graph.output] == ["start_logits", "end_logits"]
    kinds = {value.type.tensor_type.elem_type for value in model.graph.input}
    assert kinds == {onnx.TensorProto.INT64}
    sizes = [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", "sequence"]


def test_the_folder_says_what_was_checked_and_holds_the_model_s_files(exported: Path) -> None:
    text = (exported / "README.md").read_text()
    for words in ("opset 11", "gelu tanh", "largest difference", f"onnxruntime {runtime.__version__}"):
        assert words in text
    assert json.loads((exported / "config.json").read_text())["hidden_act"] == "gelu_new"


def test_weights_beyond_protobuf_s_limit_go_into_a_file_of_their_own(tmp_path: Path) -> None:
    weights = _random(MODEL)
    [batch] = writing.samples(MODEL, (2, 8))
    whole = _run(graph.build(MODEL, weights), tmp_path, batch)
    apart = tmp_path / "apart"
    apart.mkdir()
    writing.save(graph.build(MODEL, weights), str(apart / "model.onnx"), largest=1000)
    assert (apart / writing.DATA).stat().st_size > 8000
    with session.open(str(apart)) as opened:
        np.testing.assert_array_equal(opened.run(batch)[0], whole[0])


def test_an_export_that_differs_from_its_checkpoint_fails(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(graph, "_FAR", 1.0)
    assert export.main([trained, str(tmp_path / "x"), "--format", "onnx"]) == 2
    assert "logits differ from the checkpoint's by" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_int8_is_near_and_small(trained: str, exported: Path, tmp_path: Path) -> None:
    assert export.main([trained, str(tmp_path / "int8"), "--format", "onnx-int8"]) == 0
    [batch] = writing.samples(MODEL, (3, 16))
    with session.open(str(tmp_path / "int8")) as small, session.open(str(exported)) as whole:
        for one, other in zip(small.run(batch), whole.run(batch)):
            assert 0 < np.abs(one - other).max() < 0.1 * np.abs(other).max() + 0.05
    assert "int8" in (tmp_path / "int8" / "README.md").read_text()


def test_quantising_rounds_each_column_by_its_own_range() -> None:
    kernel = np.array([[1.0, 100.0, 0.0], [-0.5, 3.0, 0.0]], np.float32)
    whole, scale = graph.quantised(kernel)
    assert whole.dtype == np.int8 and np.abs(whole).max() == 63
    assert np.abs(whole * scale - kernel).max() <= scale.max() / 2
    assert np.abs(whole[:, 0] * scale[0] - kernel[:, 0]).max() <= scale[0] / 2


# A stand-in for CANN's atc: the options of ATC's manual (hiascend.com, "ATC offline model compiler") that the
# command uses, the values that it gives for --framework (5: ONNX) and --input_format, its first and last
# lines. Nothing outside checks it against the tool, which is not public; docs/export.md says so.
ATC = """#!{python}
import sys
known = {{"--model", "--framework", "--output", "--input_format", "--input_shape", "--soc_version",
          "--precision_mode", "--log"}}
given = dict(word.split("=", 1) for word in sys.argv[1:])
assert set(given) <= known and {{"--model", "--framework", "--soc_version"}} <= set(given), given
assert given["--framework"] == "5" and given["--input_format"] in ("ND", "NCHW")
print("ATC start working now, please wait for a moment.")
if given["--soc_version"] != "Ascend310P3":
    print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
    print("E10001: Value [" + given["--soc_version"] + "] for parameter [soc_version] is invalid.")
    sys.exit(255)
import onnx
held = {{value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
         for value in onnx.load(given["--model"]).graph.input}}
asked = dict(part.split(":") for part in given["--input_shape"].split(";"))
assert held == {{name: list(map(int, sizes.split(","))) for name, sizes in asked.items()}}
open(given["--output"] + ".om", "wb").write(b"om")
print("ATC run success, welcome to the next use.")
"""


def _tool(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text.format(python=sys.executable) if name == "atc" else text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_om_is_compiled_where_atc_is(trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", _tool(tmp_path, "atc", ATC))
    words = ["--format", "om", "--static", "1x16", "--soc", "Ascend310P3"]
    assert export.main([trained, str(tmp_path / "om"), *words]) == 0
    assert (tmp_path / "om" / "model.om").read_bytes() == b"om"
    assert "not tried on a device" in (tmp_path / "om" / "README.md").read_text()


def test_a_failing_atc_is_quoted(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", _tool(tmp_path, "atc", ATC))
    words = ["--format", "om", "--static", "1x16", "--soc", "Ascend999"]
    assert export.main([trained, str(tmp_path / "om"), *words]) == 2
    error = capfd.readouterr().err
    assert "atc ended with code 255" in error and "[Ascend999] for parameter [soc_version]" in error
    assert "--format onnx --static 1x16" in error
    assert not (tmp_path / "om").exists()


def test_without_atc_the_folder_holds_the_command(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert export.main([trained, str(tmp_path / "om"), "--format", "om", "--soc", "Ascend910B3"]) == 0
    assert "atc is not on PATH" in capfd.readouterr().out
    columns = min(384, MODEL.max_position_embeddings)
    path = _tool(tmp_path, "atc", '#!/bin/sh\necho "$PWD"\nprintf "%s\\n" "$@"\n')
    script = str(tmp_path / "om" / "atc.sh")
    done = subprocess.run(["/bin/sh", script], env={"PATH": path}, stdout=subprocess.PIPE)
    folder, *given = done.stdout.decode().splitlines()
    assert folder == str(tmp_path / "om") and ["atc", *given] == atc.command((1, columns), "Ascend910B3")


SMI = """#!/bin/sh
cat <<END
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     {0:<20}| OK            | 90.1        40                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3161 / 65536         |
+===========================+===============+====================================================+
| 1     {1:<20}| OK            | 90.2        41                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3161 / 65536         |
+===========================+===============+====================================================+
END
"""


@pytest.mark.parametrize(
    ("names", "chip"),
    [
        (("910B3", "910B3"), "Ascend910B3"),
        (("310P3", "310P3"), "Ascend310P3"),
        (("310P3", "910B3"), ""),
        (("Ascend910", "Ascend910"), ""),  # an A3: several chips have this name
        ((), ""),
    ],
)
def test_the_chip_is_npu_smi_s_unless_that_is_not_one(
    names: tuple[str, ...], chip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if names:
        monkeypatch.setenv("PATH", _tool(tmp_path, "npu-smi", SMI.format(*names)))
    assert atc.chip() == chip


def test_what_cannot_be_exported_is_refused_in_one_line(
    trained: str, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    cases = [
        (["--format", "om"], "--soc: npu-smi does not tell the chip; give its name, such as Ascend310P3"),
        (["--format", "om", "--soc", "310P3"], "--soc: 310P3; give its name"),
        (["--format", "onnx", "--soc", "Ascend310P3"], "only --format om is made for a chip"),
        (["--format", "onnx", "--static", "384"], "'384' is no shape; give rows and columns"),
        (["--format", "onnx", "--static", "1x9999"], "9999 columns are more than the model's"),
        (["--static", "1x8"], "safetensors has no fixed shape"),
    ]
    for words, message in cases:
        assert export.main([trained, str(tmp_path / "x"), *words]) == 2
        error = capfd.readouterr().err
        assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_names_the_extra(
    trained: str, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert export.main([trained, str(tmp_path / "x"), "--format", "onnx"]) == 2
    assert "pip install 'npu-launch[onnx]'" in capfd.readouterr().err


def _other(kind: str) -> Any:
    model = graph.build(MODEL, _random(MODEL))
    if kind == "output":
        model.graph.output[0].name = model.graph.node[-2].output[0] = "scores"
    elif kind == "input":
        model.graph.input[0].name = "pixels"
        for node in model.graph.node:
            node.input[:] = ["pixels" if name == "input_ids" else name for name in node.input]
    elif kind == "several":
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    elif kind == "flat":
        del model.graph.input[1].type.tensor_type.shape.dim[1]
    elif kind == "deep":
        model.graph.node[-2].output[0] = "flat"
        model.graph.node.append(onnx.helper.make_node("Unsqueeze", ["flat"], ["start_logits"], axes=[2]))
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1
    return model


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("input", r"input pixels of tensor.int64. is unknown; expected input_ids, attention_mask"),
        ("output", r"its outputs are .*; expected start_logits and end_logits"),
        ("several", r"its inputs have several shapes: input_ids \[1, .*; expected one of rows and columns"),
        ("flat", r"input attention_mask has the shape \[\w+\]; expected rows and columns"),
        ("deep", r"output start_logits has the shape \[\w+, \w+, 1\]; expected rows and columns"),
    ],
)
def test_a_file_of_another_kind_is_refused(kind: str, message: str, tmp_path: Path) -> None:
    onnx.save(_other(kind), str(tmp_path / "model.onnx"))
    with pytest.raises(CheckpointError, match=message):
        session.open(str(tmp_path))


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ((1, 128), r"the \.onnx file does not compute 2 x 9 tokens: .*Reshape"),
        ((1, -1), r"the \.onnx file does not compute 2 x 9 tokens, but \[1, 18\] and \[2, 9\]"),
    ],
)
def test_a_shape_that_is_fixed_within_the_graph_is_one_line(to: Any, message: str, tmp_path: Path) -> None:
    """Exports that name their sizes free, but have computed them once, are common."""
    model = graph.build(MODEL, _random(MODEL))
    model.graph.node[-2].output[0] = "flat"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(to), "to"))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["flat", "to"], ["start_logits"]))
    [batch] = writing.samples(MODEL, (2, 9))
    with pytest.raises(CheckpointError, match=message):
        _run(model, tmp_path, batch)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no \.onnx file; make one with npu-launch export"):
        session.open(str(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"\x08\x06junk")
    with pytest.raises(CheckpointError, match=r"model\.onnx: "):
        session.open(str(tmp_path))


class _Runtime:
    """Be an onnxruntime that is made for CANN."""

    @staticmethod
    def get_available_providers() -> list[str]:
        return [session.CANN, "CPUExecutionProvider"]


def test_the_device_of_the_rank_is_used_where_onnxruntime_is_made_for_cann(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ASCEND_DEVICE_ID", raising=False)
    monkeypatch.setenv("DEVICE_ID", "3")
    assert session._providers(_Runtime, "") == [(session.CANN, {"device_id": "3"}), "CPUExecutionProvider"]
    assert session._providers(_Runtime, "CPUExecutionProvider") == ["CPUExecutionProvider"]


def test_a_device_computes_one_batch_at_a_time(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with session.open(str(exported), at_once=4) as opened:
        assert opened.at_once == 4
        held = opened._session
        monkeypatch.setattr(held, "get_providers", lambda: [session.CANN, "CPUExecutionProvider"])
        assert session.OnnxModel(held, at_once=4).at_once == 1


def test_a_rank_s_cores_are_those_that_the_launcher_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment.cores() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert environment.cores() == len(os.sched_getaffinity(0))
