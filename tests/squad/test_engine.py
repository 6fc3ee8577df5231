"""onnxruntime gives TensorFlow's answers, without TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bert import export
from squad import export as squad_export
from squad.check import check
from squad.run_squad import main
from tests.launching import ROOT
from tests.squad.conftest import flags as tiny_flags
from tests.squad.ranks import run_squad

pytest.importorskip("onnx")
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
    folder = tmp_path / "int8"
    words = [finished, str(folder), "--format", "onnx-int8", "--dev", str(tiny / "dev.json")]
    assert squad_export.main(words) == 0
    [line] = [line for line in capfd.readouterr().out.splitlines() if line.startswith("on dev.json")]
    assert "10 questions, in TensorFlow F1 " in line and "; span F1 " in line
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
