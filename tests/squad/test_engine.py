"""onnxruntime gives TensorFlow's answers, without TensorFlow."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bert import export
from bert.checkpoints.store import sha256
from squad import export as squad_export
from squad.answerer import Answerer
from squad.check import check
from squad.errors import DataError
from squad.null_threshold import of_checkpoint
from squad.run_squad import main
from tests.launching import ROOT
from tests.squad.conftest import flags as tiny_flags
from tests.squad.ranks import run_squad

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(finished: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    assert export.main([finished, str(folder), "--format", "onnx"]) == 0
    return folder


def _flags(tiny: Path, model: Any, **changes: Any) -> list[str]:
    values = {"do_predict": True, "init_checkpoint": model, "engine": "onnxruntime"}
    given = tiny_flags(tiny, **{**values, **changes})
    return [word for word in given if not word.startswith(("--vocab_file", "--bert_config_file"))]


def _answers(folder: Path) -> Any:
    return json.loads((folder / "predictions.json").read_text())


def test_answers_equal_those_of_tensorflow(
    tiny: Path, finished: str, exported: Path, tmp_path: Path
) -> None:
    assert main(_flags(tiny, finished, engine="tensorflow", output_dir=tmp_path / "tf")) == 0
    code = "import sys; from squad import run_squad as r; sys.exit(r.main() or 'tensorflow' in sys.modules)"
    words = _flags(tiny, exported, output_dir=tmp_path / "onnx")
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=str(ROOT), capture_output=True)
    assert done.returncode == 0, done.stderr  # 1: it has imported TensorFlow
    assert b"fp32" in done.stdout and b"EM " in done.stdout
    assert _answers(tmp_path / "onnx") == _answers(tmp_path / "tf")
    odds = [json.loads((tmp_path / name / "null_odds.json").read_text()) for name in ("tf", "onnx")]
    assert odds[1] == pytest.approx(odds[0], abs=1e-4)


def test_ranks_share_the_work(tiny: Path, exported: Path, tmp_path: Path) -> None:
    assert main(_flags(tiny, exported, output_dir=tmp_path / "one", predict_batch_size=2)) == 0
    words = _flags(tiny, exported, output_dir=tmp_path / "two", predict_batch_size=2)
    run_squad(tmp_path / "ranks", 2, words)
    assert _answers(tmp_path / "two") == _answers(tmp_path / "one")


def test_a_file_of_fixed_shape_is_asked_in_rows_of_it(
    tiny: Path, finished: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "fixed"
    words = [finished, str(folder), "--format", "onnx", "--static", "3x48", "--dev", str(tiny / "dev.json")]
    assert squad_export.main(words) == 0
    assert "10 questions" in capfd.readouterr().out
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 48
    with Answerer(str(folder)) as model, Answerer(finished, max_seq_length=48, backend="cpu") as whole:
        for passage in ("mr abc was born in 1234.", "mr abc was born in 1234. " * 9):
            one, other = (asked.answer("when?", passage) for asked in (model, whole))
            assert one.text == other.text and one.null_odds == pytest.approx(other.null_odds, abs=1e-4)


def _kept(finished: str, folder: Path, **facts: Any) -> Path:
    """Copy a run's folder, and write more into its checkpoint's JSON."""
    shutil.copytree(str(Path(finished).parent), str(folder))
    path = folder / "model.ckpt-2.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    return folder


def test_the_threshold_and_its_file_travel_and_the_loss_is_that_of_asking(
    tiny: Path, finished: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    dev = tiny / "dev.json"
    data = {"name": "dev.json", "sha256": sha256(str(dev))}
    found = {"f1": -1.5, "exact": -2.0, "questions": 10, "data": data}
    run = _kept(finished, tmp_path / "run", threshold=found)
    words = [str(run), str(tmp_path / "onnx"), "--format", "onnx", "--dev", str(dev)]
    assert squad_export.main(words) == 0
    out = capfd.readouterr().out
    assert f"wrote {tmp_path / 'onnx'} from {run / 'model.ckpt-2'}" in out
    assert "10 questions, at threshold 0, in TensorFlow F1 " in out
    assert "at threshold -1.5, as it is asked, searched on this file, in TensorFlow F1 " in out
    assert of_checkpoint(str(tmp_path / "onnx")) == of_checkpoint(str(run / "model.ckpt-2"))
    assert of_checkpoint(str(tmp_path / "onnx")).sha256 == data["sha256"]


def test_int8_is_asked_with_a_threshold_of_its_own(
    tiny: Path, finished: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    dev, folder = tiny / "dev.json", tmp_path / "int8"
    found = {"f1": 1e6, "exact": 0.0, "questions": 999, "data": {"name": "other.json", "sha256": "0"}}
    run = _kept(finished, tmp_path / "run", threshold=found)
    assert squad_export.main([str(run), str(folder), "--format", "onnx-int8", "--dev", str(dev)]) == 0
    out = capfd.readouterr().out
    kept = of_checkpoint(str(folder))
    line = f"at {kept.value:.6g}, searched on this file and kept in its place, in TensorFlow at 1e+06 F1 "
    assert line in out and line in (folder / "README.md").read_text()
    assert kept.value < 1e6 and kept.origin == ", from dev.json (10 questions)"
    assert kept.sha256 == sha256(str(dev))


def test_figures_are_those_of_squad_1_and_of_cmrc_where_asked(
    tiny: Path, finished: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    document = json.loads((tiny / "dev.json").read_text())
    for paragraph in document["data"][0]["paragraphs"]:
        paragraph["qas"] = [
            {key: value for key, value in question.items() if key != "is_impossible"}
            for question in paragraph["qas"] if question["answers"]
        ]  # fmt: skip
    dev = tmp_path / "dev-v1.1.json"
    dev.write_text(json.dumps({"version": "1.1", "data": document["data"]}))
    task = {**json.loads(Path(finished + ".json").read_text())["task"], "version_2_with_negative": False}
    words = [str(_kept(finished, tmp_path / "run", task=task)), str(tmp_path / "onnx"), "--format", "onnx"]
    assert squad_export.main([*words, "--dev", str(dev)]) == 0
    out = capfd.readouterr().out
    assert "5 questions, in TensorFlow F1 " in out and "; EM " in out
    words[1] = str(tmp_path / "cmrc")
    assert squad_export.main([*words, "--dev", str(dev), "--evaluation", "cmrc"]) == 0
    assert "; AVERAGE " in capfd.readouterr().out


def test_a_run_s_best_checkpoint_is_exported(
    finished: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    run = _kept(finished, tmp_path / "run")
    facts = json.loads((run / "model.ckpt-2.json").read_text())
    for path in run.glob("model.ckpt-2.*"):
        shutil.copy(str(path), str(run / path.name.replace("ckpt-2", "ckpt-3")))
    facts["files"] = {name.replace("ckpt-2", "ckpt-3"): entry for name, entry in facts["files"].items()}
    facts["config"]["keep_best"], facts["evaluation"] = "f1", {"best_step": 2}
    (run / "model.ckpt-3.json").write_text(json.dumps(facts))
    assert squad_export.main([str(run), str(tmp_path / "hf")]) == 0
    assert f"from {run / 'model.ckpt-2'}\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_train": True}, "engine: onnxruntime answers only; leave do_train out"),
        ({"engine": "tensorflow"}, "an .onnx file; give --engine=onnxruntime, or its checkpoint"),
        ({"init_checkpoint": "none"}, "no such file or folder; write one with npu-launch export"),
        ({"init_checkpoint": "finished"}, "no .onnx file; a checkpoint; write one with npu-launch export"),
    ],
)
def test_what_does_not_go_together_is_refused(
    changes: dict[str, Any], message: str, tiny: Path, finished: str, exported: Path
) -> None:
    if changes.get("init_checkpoint") == "finished":
        changes = {"init_checkpoint": Path(finished).parent}
    found = check(_flags(tiny, exported / "model.onnx", output_dir="x", **changes), {}).findings
    assert any(message in f"{flag}: {text}" for flag, text in found), found


def test_a_file_of_another_program_is_asked_in_rows_of_its_own_shape(
    tiny: Path, exported: Path, tmp_path: Path
) -> None:
    """Without tokenizer_config.json, in which an export says its columns."""
    model = onnx.load(str(exported / "model.onnx"))
    for entry in model.graph.input:
        for dim, size in zip(entry.type.tensor_type.shape.dim, (2, 48)):
            dim.dim_value = size
    onnx.save(model, str(tmp_path / "model.onnx"))
    for name in ("config.json", "vocab.txt"):
        shutil.copy(str(exported / name), str(tmp_path))
    passage = "mr abc was born in 1234. " * 9
    with Answerer(str(tmp_path), max_query_length=24) as made:
        assert made.flags.max_seq_length == 48
        with Answerer(str(exported), max_seq_length=48, max_query_length=24) as free:
            assert made.answer("when?", passage).text == free.answer("when?", passage).text
    with pytest.raises(DataError, match=r"64 tokens, the \.onnx file is made for 48; give 48"):
        Answerer(str(tmp_path), max_query_length=24, max_seq_length=64)


def test_rows_longer_than_a_fixed_file_are_refused(
    tiny: Path, finished: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "fixed"
    assert export.main([finished, str(folder), "--format", "onnx", "--static", "2x32"]) == 0
    assert main(_flags(tiny, folder, output_dir=tmp_path / "out")) == 2
    assert "tokens, the .onnx file is made for 32" in capfd.readouterr().err


def test_the_gelu_is_the_file_s(tiny: Path, exported: Path) -> None:
    notes = check(_flags(tiny, exported, output_dir="x", gelu="tanh"), {}).notes
    assert any(flag == "gelu" and "no effect" in text for flag, text in notes)


def test_the_loss_of_f1_is_measured_and_written(
    tiny: Path, finished: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder, run = tmp_path / "int8", _kept(finished, tmp_path / "run", threshold=None)
    words = [str(run), str(folder), "--format", "onnx-int8", "--dev", str(tiny / "dev.json")]
    assert squad_export.main(words) == 0
    [line] = [line for line in capfd.readouterr().out.splitlines() if line.startswith("on dev.json")]
    assert "10 questions, at threshold 0, as it is asked, in TensorFlow F1 " in line and "; EM " in line
    assert "; span F1 " in line
    assert (folder / "README.md").read_text().endswith(f"- {line}\n")


def test_int8_without_a_file_says_that_nothing_was_measured(
    finished: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    assert squad_export.main([finished, str(tmp_path / "int8"), "--format", "onnx-int8"]) == 0
    assert "loss of F1: not measured; give --dev FILE" in capfd.readouterr().out
    words = [finished, str(tmp_path / "x"), "--format"]
    assert squad_export.main([*words, "onnx-int8", "--dev", str(tmp_path / "none")]) == 2
    assert squad_export.main([*words, "safetensors", "--dev", "dev.json"]) == 2
    error = capfd.readouterr().err
    assert "none: no such file" in error and "safetensors is not measured" in error
    assert not (tmp_path / "x").exists()
