"""The defects of the original script, each shown to be absent: the whole program on a tiny BERT."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squad.answers import official_script
from squad.run_squad import main
from tests.squad.conftest import flags, squad_document
from tests.squad.ranks import run_squad

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """import json, sys
answers = json.load(open(sys.argv[2]))
print("12 predictions read")
print(%s)
"""


def losses(folder: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Train; give the loss of every step."""
    folder.mkdir()
    monkeypatch.setenv("NPU_LAUNCH_RANK_DIR", str(folder))
    assert main([*argv, "--display_loss_steps=1", f"--output_dir={folder / 'out'}"]) == 0
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records]


def test_01_it_trains_with_amp_off_and_on(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    runs = {}
    for amp in (False, True):
        wish = flags(tiny, do_train=True, num_train_steps=2, amp=amp)
        runs[amp] = losses(tmp_path / str(amp), wish, monkeypatch)
    assert len(runs[False]) == 2 and runs[True] == pytest.approx(runs[False], rel=0.05)


def test_02_the_tail_of_a_prediction_is_not_lost(tiny: Path, finished: str, tmp_path: Path) -> None:
    wish = {"init_checkpoint": finished, "predict_batch_size": 7, "output_dir": tmp_path}
    assert main(flags(tiny, do_predict=True, **wish)) == 0
    answers = json.loads((tmp_path / "predictions.json").read_text())
    assert sorted(answers) == sorted(f"{kind}{n}" for kind in "qn" for n in range(500, 505))


def test_03_a_question_with_no_answer_among_the_n_best_is_answered_with_nothing(
    tiny: Path, finished: str, tmp_path: Path
) -> None:
    # One start and one end of one token at most: for most rows no allowed span is left.
    wish = {"init_checkpoint": finished, "n_best_size": 1, "max_answer_length": 1, "output_dir": tmp_path}
    assert main(flags(tiny, do_predict=True, **wish)) == 0
    nbest = json.loads((tmp_path / "nbest_predictions.json").read_text())
    answers = json.loads((tmp_path / "predictions.json").read_text())
    empty = [key for key, entries in nbest.items() if all(not entry["text"] for entry in entries)]
    assert empty and all(answers[key] == "" for key in empty)


@pytest.mark.parametrize(
    "printed",
    ["json.dumps({'exact_match': 50.5, 'f1': 60.25})", "json.dumps({'exact': 50.5, 'f1': 60.25}, indent=2)"],
)
def test_04_the_official_figures_are_parsed_as_json_for_both_versions(tmp_path: Path, printed: str) -> None:
    (tmp_path / "evaluate.py").write_text(SCRIPT % printed)
    (tmp_path / "predictions.json").write_text("{}")
    found = official_script.run(str(tmp_path / "evaluate.py"), "dev.json", str(tmp_path / "predictions.json"))
    assert sorted(found.values()) == [50.5, 60.25]


def cached(tiny: Path, folder: Path, **more: Any) -> list[str]:
    wish = dict({"num_train_steps": 2, "use_tfrecord": True, "input_files_dir": folder / "cache"}, **more)
    return flags(tiny, do_train=True, **wish)


def test_05_a_truncated_cache_is_never_trained_from(
    tiny: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    whole = losses(tmp_path / "1", cached(tiny, tmp_path), monkeypatch)
    (records,) = (tmp_path / "cache").glob("train.tf_record*")
    records.write_bytes(records.read_bytes()[:-1000])
    capsys.readouterr()
    assert losses(tmp_path / "2", cached(tiny, tmp_path), monkeypatch) == pytest.approx(whole)
    assert "building the cache of features: train.tf_record has" in capsys.readouterr().out


def test_06_a_cache_of_other_parameters_is_never_trained_from(
    tiny: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    losses(tmp_path / "1", cached(tiny, tmp_path, doc_stride=32), monkeypatch)
    capsys.readouterr()
    stale = losses(tmp_path / "2", cached(tiny, tmp_path), monkeypatch)
    assert "it was made with doc_stride 32 instead of 16" in capsys.readouterr().out
    fresh = losses(tmp_path / "3", flags(tiny, do_train=True, num_train_steps=2), monkeypatch)
    assert stale == pytest.approx(fresh)


def test_06_a_cache_does_not_depend_on_the_number_of_ranks(tiny: Path, tmp_path: Path) -> None:
    for ranks, said in ((1, 1), (3, 0)):
        output = run_squad(tmp_path / str(ranks), ranks, cached(tiny, tmp_path))
        assert output.count("building the cache") == said
    assert len(list((tmp_path / "cache").glob("train.tf_record*"))) == 1


def test_07_throughput_counts_real_examples_and_no_padding(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    wish = {"num_train_epochs": 2, "train_batch_size": 10, "output_dir": tmp_path, "iterations_per_loop": 5}
    assert main(flags(tiny, do_train=True, **wish)) == 0
    text = capsys.readouterr().out
    assert "an epoch is 56 features, 6 steps" in text
    assert re.search(r"trained to step 12: 112 examples\b", text), text


def test_08_accumulated_batches_make_the_same_steps(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    curves = {}
    for count in (1, 2, 4):
        wish = flags(tiny, do_train=True, num_train_steps=4, train_batch_size=8 // count,
                     num_accumulation_steps=count)  # fmt: skip
        curves[count] = losses(tmp_path / str(count), wish, monkeypatch)
    assert len(curves[1]) == 4
    assert curves[2] == pytest.approx(curves[1], rel=1e-4) and curves[4] == pytest.approx(curves[1], rel=1e-4)


def test_09_what_lies_in_output_dir_is_never_used_silently(
    tiny: Path, finished: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(flags(tiny, do_train=True, num_train_steps=9, output_dir=tmp_path)) == 0
    predicting = {"do_predict": True, "init_checkpoint": finished}
    for folder in (tmp_path, tmp_path / "empty"):
        assert main(flags(tiny, output_dir=folder, **predicting)) == 0
    odds = [json.loads((f / "null_odds.json").read_text()) for f in (tmp_path, tmp_path / "empty")]
    assert odds[0] == pytest.approx(odds[1])
    capsys.readouterr()
    assert main(flags(tiny, do_train=True, num_train_steps=9, output_dir=tmp_path)) == 0
    assert "is already trained to step 9 of 9; nothing to do" in capsys.readouterr().out


def test_10_a_failing_case_makes_the_e2e_script_fail(tiny: Path, tmp_path: Path) -> None:
    from launcher.cases.csv_file import COLUMNS

    cells = {"CASENUM": "1", "CASENAME": "bad", "DEVICE_ID": "0", "RUN_ALGORITHM_CMD": "false"}
    rows = [",".join(COLUMNS), ",".join(cells.get(column, "") for column in COLUMNS)]
    (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "npu-launch").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m launcher "$@"\n')
    (tmp_path / "npu-launch").chmod(0o755)
    environ = dict(os.environ, PATH="{}:{}".format(tmp_path, os.environ["PATH"]), PYTHONPATH=str(ROOT))
    command = ["sh", str(ROOT / "examples" / "e2e_test.sh"), "cases.csv", "1", "host"]
    done = subprocess.run(command, cwd=str(tmp_path), env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "failed (exit code 1)" in done.stdout


def test_11_iterations_per_loop_does_not_overshoot_the_steps(tiny: Path, tmp_path: Path) -> None:
    wish = {"num_train_steps": 7, "iterations_per_loop": 5, "save_checkpoints_steps": 0}
    assert main(flags(tiny, do_train=True, output_dir=tmp_path, **wish)) == 0
    assert [path.name for path in tmp_path.glob("model.ckpt-*.index")] == ["model.ckpt-7.index"]


def test_12_two_ranks_resume_with_their_optimizers_in_step(tiny: Path, tmp_path: Path) -> None:
    wish = {"num_train_steps": 6, "save_checkpoints_steps": 3, "output_dir": tmp_path / "out"}
    weights = []
    for name in ("first", "second"):
        output = run_squad(tmp_path / name, 2, flags(tiny, do_train=True, **wish))
        weights.append(values(tmp_path / "out" / "model.ckpt-6"))
        for path in (tmp_path / "out").glob("model.ckpt-6*"):
            path.unlink()  # so that the second run goes on from step 3
    assert "at step 3 of 6" in output
    assert weights[0].keys() == weights[1].keys() and any("adam_v" in key for key in weights[0])
    for key, value in weights[0].items():
        np.testing.assert_allclose(weights[1][key], value, rtol=1e-5, atol=1e-7, err_msg=key)


def values(prefix: Path) -> dict[str, np.ndarray]:
    import tensorflow.compat.v1 as tf

    reader = tf.train.NewCheckpointReader(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def test_a_question_of_several_windows_has_them_all_answered(
    tiny: Path, finished: str, tmp_path: Path
) -> None:
    document = squad_document(900, 1)
    paragraph = document["data"][0]["paragraphs"][0]
    paragraph["context"] = "very long ago " * 30 + paragraph["context"]
    paragraph["qas"][0]["answers"][0]["answer_start"] += len("very long ago " * 30)
    (tmp_path / "long.json").write_text(json.dumps(document))
    wish = {"init_checkpoint": finished, "predict_file": tmp_path / "long.json", "output_dir": tmp_path}
    assert main(flags(tiny, do_predict=True, predict_batch_size=3, **wish)) == 0
    assert sorted(json.loads((tmp_path / "predictions.json").read_text())) == ["n900", "q900"]
