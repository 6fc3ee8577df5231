"""The program, whole, in one process: train, predict, evaluate, on a tiny BERT."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert.cluster import Cluster
from squad import cmrc, run_squad
from squad.evaluate import read_questions
from squad.run_squad import main
from tests.squad.conftest import flags, squad_document
from tests.squad.ranks import run_squad as run_ranks

ROOT = Path(__file__).resolve().parents[2]
IDS = sorted(f"{kind}{number}" for number in range(500, 505) for kind in "qn")


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def artifacts(rank_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (rank_dir / "artifacts.jsonl").read_text().splitlines()]


def test_trains_predicts_and_evaluates_in_one_go(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("NPU_LAUNCH_RANK_DIR", str(tmp_path))
    out = tmp_path / "out"
    wish = flags(tiny, do_train=True, do_predict=True, num_train_steps=3, output_dir=out)
    assert main(wish) == 0
    text = capsys.readouterr().out
    assert "EM " in text and "HasAns" in text and "NoAns" in text
    assert "Latency Confidence Level 99" in text and "Throughput Average" in text
    assert sorted(load(out / "predictions.json")) == IDS
    assert sorted(load(out / "nbest_predictions.json")) == sorted(load(out / "null_odds.json")) == IDS
    traced = load(out / "precision_recall.json")
    assert set(traced) == {"pr_exact", "pr_f1", "pr_oracle"}
    assert traced["pr_oracle"]["recalls"][-1] == 1 and traced["pr_oracle"]["precisions"][0] == 1
    kinds = {item["kind"]: item for item in artifacts(tmp_path)}
    assert set(kinds) == {"checkpoint", "predictions", "metrics"}
    assert {"exact", "f1", "HasAns_f1", "NoAns_f1"} <= set(kinds["metrics"]["values"])
    assert [os.path.basename(path) for path in kinds["predictions"]["files"]] == [
        "predictions.json", "nbest_predictions.json", "null_odds.json",
    ]  # fmt: skip
    assert kinds["checkpoint"]["prefix"] == str(out / "model.ckpt-3")
    assert not list(out.glob("logits_*"))


@pytest.mark.parametrize("rank", [0, 1])
def test_notes_are_printed_by_rank_0_alone_and_stop_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, rank: int
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(run_squad, "run", lambda flags, cluster: ran.append(cluster.rank))
    monkeypatch.setattr(Cluster, "from_environ", lambda environ: Cluster(rank, 2))
    wish = flags(tiny, do_train=True, output_dir=tmp_path, dllog_path="/d.json", use_fast_gelu=True)
    assert main(wish) == 0
    assert ran == [rank]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": --")[2].partition(":")[0] for line in lines] == (
        ["dllog_path", "use_fast_gelu"] if rank == 0 else []
    )


@pytest.fixture(scope="module")
def alone(finished: str, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give the answers of one process and batch size 1, rows padded as in the original script."""
    folder = tmp_path_factory.mktemp("alone")
    assert main(predicting(tiny, finished, folder, predict_batch_size=1)) == 0
    return {name: load(folder / name) for name in ("predictions.json", "null_odds.json")}


def predicting(tiny: Path, checkpoint: str, folder: Path, **more: Any) -> list[str]:
    return flags(tiny, do_predict=True, init_checkpoint=checkpoint, output_dir=folder, **more)


def check_same(folder: Path, expected: dict[str, Any]) -> None:
    assert load(folder / "predictions.json") == expected["predictions.json"]
    odds, wanted = load(folder / "null_odds.json"), expected["null_odds.json"]
    assert odds.keys() == wanted.keys()
    np.testing.assert_allclose([odds[key] for key in wanted], list(wanted.values()), atol=1e-4)


@pytest.mark.parametrize("size", [3, 7, 8, 64])
def test_answers_are_the_same_for_every_predict_batch_size(
    tiny: Path, finished: str, alone: Any, tmp_path: Path, size: int
) -> None:
    assert main(predicting(tiny, finished, tmp_path, predict_batch_size=size)) == 0
    check_same(tmp_path, alone)


@pytest.mark.parametrize("ranks", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_answers_are_the_same_for_every_number_of_ranks(
    tiny: Path, finished: str, alone: Any, tmp_path: Path, ranks: int
) -> None:
    words = predicting(tiny, finished, tmp_path / "out", predict_batch_size=2)
    run_ranks(tmp_path / "run", ranks, words)
    check_same(tmp_path / "out", alone)


def test_runs_as_a_file_from_any_folder(tiny: Path, finished: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "squad" / "run_squad.py")]
    done = subprocess.run(
        command + predicting(tiny, finished, tmp_path / "out"),
        cwd=str(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(load(tmp_path / "out" / "predictions.json")) == IDS


def test_the_users_official_script_is_run_too(
    tiny: Path, finished: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    script = tmp_path / "evaluate.py"
    script.write_text(
        "import json, sys\nanswers = json.load(open(sys.argv[2]))\n"
        "print(json.dumps({'exact': -1.0, 'total': len(answers)}, indent=2))\n"
    )
    assert main(predicting(tiny, finished, tmp_path / "out", eval_script=script)) == 0
    text = capsys.readouterr().out
    assert "exact -1.0000  total 10.0000" in text
    assert "warning: the evaluations differ: exact: ours" in text


def test_num_eval_iterations_answers_and_scores_the_first_questions_alone(
    tiny: Path, finished: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(predicting(tiny, finished, tmp_path, num_eval_iterations=2, predict_batch_size=3)) == 0
    assert list(load(tmp_path / "predictions.json")) == ["q500", "n500", "q501", "n501", "q502", "n502"]
    assert "on 6 questions" in capsys.readouterr().out


def test_a_file_without_answers_is_answered_and_not_scored(
    tiny: Path, finished: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    document = squad_document(500, 5)
    for paragraph in document["data"][0]["paragraphs"]:
        paragraph["qas"] = [{"id": qa["id"], "question": qa["question"]} for qa in paragraph["qas"]]
    (tmp_path / "test.json").write_text(json.dumps(document))
    wish = predicting(tiny, finished, tmp_path, predict_file=tmp_path / "test.json")
    assert main(wish) == 0
    assert "nothing is scored" in capsys.readouterr().out
    assert sorted(load(tmp_path / "predictions.json")) == IDS


def test_squad_1_1_is_trained_answered_and_scored(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    document = squad_document(0, 6)
    document["version"] = "1.1"
    for paragraph in document["data"][0]["paragraphs"]:
        paragraph["qas"] = [{k: v for k, v in paragraph["qas"][0].items() if k != "is_impossible"}]
    (tmp_path / "v1.json").write_text(json.dumps(document))
    changes = {"train_file": tmp_path / "v1.json", "predict_file": tmp_path / "v1.json"}
    wish = flags(tiny, do_train=True, do_predict=True, num_train_steps=2, output_dir=tmp_path,
                 **dict(changes, version_2_with_negative=False))  # fmt: skip
    assert main(wish) == 0
    text = capsys.readouterr().out
    assert "on 6 questions" in text and "HasAns" not in text
    assert "warning: 6 of the 6 questions of predict_file are in train_file too" in text
    assert not (tmp_path / "null_odds.json").exists()
    assert all(load(tmp_path / "predictions.json").values())


@pytest.mark.parametrize("batching", ["pad", "pack"])
def test_an_epoch_has_as_many_steps_as_its_rows_fill(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture, batching: str
) -> None:
    wish = flags(tiny, do_train=True, num_train_epochs=1.25, train_batch_size=4, batching=batching,
                 max_seq_length=192, output_dir=tmp_path)  # fmt: skip
    assert main(wish) == 0
    text = capsys.readouterr().out
    rows = int(re.search(r"an epoch is (?:\d+ features in )?(\d+)", text).group(1))
    assert rows == 24 if batching == "pad" else rows < 24
    steps = round(1.25 * -(-rows // 4))
    assert f"training: {steps} steps of 4 rows on 1 device" in text
    assert (tmp_path / (f"model.ckpt-{steps}.index")).is_file()


def test_bad_data_is_one_line_and_exit_code_2(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "broken.json").write_text('{"data": [\n}')
    wish = flags(tiny, do_train=True, train_file=tmp_path / "broken.json", output_dir=tmp_path)
    assert main(wish) == 2
    error = capsys.readouterr().err
    assert error.startswith("run_squad: ") and "broken.json:2:1: invalid JSON" in error
    assert error.count("\n") == 1


def test_the_cache_is_built_once_and_then_trained_from(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    wish = {"num_train_steps": 2, "display_loss_steps": 1, "use_tfrecord": True}
    wish["input_files_dir"] = tmp_path / "cache"
    texts = []
    for folder in ("first", "second"):
        assert main(flags(tiny, do_train=True, output_dir=tmp_path / folder, **wish)) == 0
        texts.append(capsys.readouterr().out)
    assert "building the cache of features: none exists yet" in texts[0]
    assert "building the" not in texts[1] and "train.json: 56 features" in texts[1]
    losses = [re.findall(r"^step .* loss ([0-9.]+)", text, re.MULTILINE) for text in texts]
    assert len(losses[0]) == 2 and losses[0] == losses[1]


def test_auto_predicts_with_the_threshold_of_an_earlier_prediction(
    tiny: Path, finished: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for suffix in (".index", ".data-00000-of-00001", ".json"):
        shutil.copy(finished + suffix, tmp_path)
    held = Path(tmp_path / "model.ckpt-2.json")
    facts = json.loads(held.read_text())
    held.write_text(json.dumps({name: facts[name] for name in facts if name != "threshold"}))
    wish: dict[str, Any] = {
        "do_predict": True, "init_checkpoint": tmp_path / "model.ckpt-2", "output_dir": tmp_path / "out",
    }  # fmt: skip
    auto = dict(wish, null_score_diff_threshold="auto")
    assert main(flags(tiny, **auto)) == 2
    assert "ckpt-2 has no threshold for null_score_diff_threshold=auto; predict" in capsys.readouterr().err
    assert main(flags(tiny, **wish)) == 0
    text = capsys.readouterr().out
    assert "\nat threshold 0: EM " in text
    best = next(line for line in text.splitlines() if line.startswith("best threshold "))
    assert " (searched on these questions): EM " in best and best.endswith("; stored in model.ckpt-2.json")
    # On the same file its figures are those of the search, and the line says what they are worth.
    assert main(flags(tiny, **auto)) == 0
    text = capsys.readouterr().out
    kept = json.loads(held.read_text())["threshold"]
    assert f"at threshold {kept['f1']:.6g}, from dev.json (10 questions): EM " in text
    assert "no result: this threshold was searched on this file" in text
    reached = best.partition("EM ")[2].partition(";")[0]
    assert f"(10 questions): EM {reached}  on 10 questions" in text
    # On another file they are a result.
    (tmp_path / "test.json").write_text(json.dumps(squad_document(600, 4)))
    assert main(flags(tiny, **dict(auto, predict_file=tmp_path / "test.json"))) == 0
    text = capsys.readouterr().out
    assert "from dev.json (10 questions): EM " in text and "no result" not in text
    assert json.loads(held.read_text())["threshold"] == kept


def test_a_run_is_scored_by_cmrcs_rules(tiny: Path, finished: str, tmp_path: Path, capfd: Any) -> None:
    wish = {"do_predict": True, "init_checkpoint": finished, "output_dir": tmp_path, "evaluation": "cmrc"}
    assert main(flags(tiny, version_2_with_negative=False, **wish)) == 0
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    questions = read_questions(json.loads((tiny / "dev.json").read_text()))
    exact, f1 = (100 * sum(values.values()) / 10 for values in cmrc.score(questions, predictions))
    assert f"EM {exact:.3f}  F1 {f1:.3f}  on 10 questions" in capfd.readouterr().out


@pytest.mark.parametrize("answers", [True, False])
def test_cmrcs_own_layout_is_answered_and_scored_as_squads(
    tiny: Path, finished: str, tmp_path: Path, capfd: Any, answers: bool
) -> None:
    (article,) = json.loads((tiny / "dev.json").read_text())["data"]
    entries = []
    for paragraph in article["paragraphs"]:
        qas = [{"query_id": one["id"], "query_text": one["question"],
                **({"answers": [answer["text"] for answer in one["answers"]]} if answers else {})}
               for one in paragraph["qas"]]  # fmt: skip
        entries.append({"context_id": "x", "context_text": paragraph["context"], "qas": qas})
    flat = tmp_path / "flat.json"
    flat.write_text(json.dumps(entries))
    wish = {"do_predict": True, "init_checkpoint": finished, "evaluation": "cmrc"}
    said = []
    for path in (tiny / "dev.json", flat):
        out = tmp_path / path.stem
        assert main(flags(tiny, predict_file=path, output_dir=out, **wish)) == 0
        said.append([line for line in capfd.readouterr().out.splitlines() if " EM " in line and "at" in line])
    one, other = ((tmp_path / name / "predictions.json").read_text() for name in ("dev", "flat"))
    assert one == other
    assert said[1][:1] == (said[0][:1] if answers else []) and said[0]
    assert main(flags(tiny, do_train=True, train_file=flat, output_dir=tmp_path / "out")) == 2
    assert "CMRC 2018's own layout, which does not say where answers begin" in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_ends_a_prediction_before_its_work(
    tiny: Path, finished: str, capsys: pytest.CaptureFixture
) -> None:
    wish = flags(tiny, do_predict=True, init_checkpoint=finished, output_dir="/proc/out")
    assert main(wish) == 1
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "run_squad: /proc/out: No such file or directory"
    assert "features" not in out
