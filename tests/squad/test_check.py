"""What is looked at before anything starts: flags, files, shapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from squad.check import check, main, with_model_files
from squad.flags import SquadFlags
from tests.squad.conftest import flags

ROOT = Path(__file__).resolve().parents[2]


def findings(argv: list[str], **environ: str) -> list[str]:
    return ["{}: {}".format(*finding) for finding in check(argv, dict(environ, NPU_LAUNCH_CHECK="1"))[1]]


def test_a_good_command_line_has_no_findings(tiny: Path) -> None:
    assert findings(flags(tiny, do_train=True, do_predict=True)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_train": False}, "do_train: nothing to do"),
        ({"do_train": False, "do_predict": True}, "init_checkpoint: missing; give the fine-tuned checkpoint"),
        ({"vocab_file": ""}, "vocab_file: missing"),
        ({"train_file": ""}, "train_file: missing"),
        ({"train_file": "nowhere.json"}, "train_file: %(here)s/nowhere.json: no such file"),
        ({"eval_script": "e.py"}, "eval_script: %(here)s/e.py: no such file"),
        ({"init_checkpoint": "model.ckpt-8200"}, "init_checkpoint: %(here)s/model.ckpt-8200: no checkpoint"),
        ({"train_batch_size": 0}, "train_batch_size: 0 is below 1"),
        ({"eval_share": 1, "eval_steps": 2}, "eval_share: 1 is no share of train_file that leaves some"),
        ({"eval_share": "nan", "eval_steps": 2}, "eval_share: nan is no share of train_file"),
        ({"eval_epochs": -1}, "eval_epochs: -1.0 is not 0 or more"),
        ({"eval_epochs": 1, "eval_steps": 2}, "eval_epochs: given beside eval_steps=2; give one of them"),
        ({"eval_share": 0.5}, "eval_share: needs evaluations while training; give eval_epochs=1"),
        ({"keep_best": "f1"}, "keep_best: needs evaluations while training"),
        ({"early_stopping_patience": 2}, "early_stopping_patience: needs evaluations while training"),
        ({"eval_steps": 2, "predict_file": ""}, "eval_steps: nothing to evaluate on; give predict_file"),
        ({"learning_rate": -1}, "learning_rate: -1.0 is negative"),
        ({"warmup_proportion": 1}, "warmup_proportion: 1: expected 0 or more, and less than 1"),
        ({"dropout_rate": 1.5}, "dropout_rate: 1.5: expected 0 or more, and less than 1; or -1"),
        ({"learning_rate": "nan"}, "learning_rate: nan is not a finite number"),
        ({"num_train_epochs": "nan"}, "num_train_epochs: nan is not a finite number"),
        ({"num_train_epochs": "inf"}, "num_train_epochs: inf is not a finite number"),
        ({"num_train_epochs": 1e30}, "num_train_epochs: 1e+30 is more than 2147483647"),
        ({"weight_decay": -1}, "weight_decay: -1.0 is negative"),
        ({"adam_epsilon": 0}, "adam_epsilon: 0 is not a number above 0"),
        ({"adam_epsilon": "nan"}, "adam_epsilon: nan is not a number above 0"),
        ({"save_checkpoints_steps": -1}, "save_checkpoints_steps: -1 is negative"),
        ({"num_eval_iterations": -1}, "num_eval_iterations: -1 is negative"),
        ({"train_batch_size": 10**400}, "train_batch_size: 1000000000000000000000000000000000000000 is more"),
        ({"n_best_size": 2**31}, "n_best_size: 2147483648 is more than 2147483647"),
        ({"max_query_length": 61}, "max_seq_length: 64 leaves no room for a passage"),
        ({"max_seq_length": 200}, "max_seq_length: 200 is more than the model's 192 positions"),
        ({"use_tfrecord": True}, "use_tfrecord: no cache to reuse; give its folder as input_files_dir"),
        (
            {"npu_bert_loss_scale": 0.5},
            "npu_bert_loss_scale: 0.5 is not a loss scale; give -1 (off), 0 (dynamic)",
        ),
        ({"npu_bert_loss_scale": "nan"}, "npu_bert_loss_scale: nan is not a loss scale; give -1 (off)"),
        ({"npu_bert_loss_scale": "inf"}, "npu_bert_loss_scale: inf is not a loss scale; give -1 (off)"),
        ({"init_loss_scale_value": 0}, "init_loss_scale_value: 0.0 is not a loss scale; give 1 to 3.4e+38"),
        ({"init_loss_scale_value": "nan"}, "init_loss_scale_value: nan is not a loss scale"),
        ({"init_loss_scale_value": "1e39"}, "init_loss_scale_value: 1e+39 is not a loss scale"),
        ({"iterations_per_loop": 2**31}, "iterations_per_loop: 2147483648 is outside 1 to 2147483647"),
        ({"data_dump_step": "0,5"}, "data_dump_step: '0,5'; give steps and ranges"),
        ({"precision_mode": "fp64"}, "precision_mode: 'fp64' is none of force_fp32"),
    ],
)
def test_each_mistake_is_found_and_named(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = findings(flags(tiny, **dict({"do_train": True}, **changes)))
    assert any(line.startswith(message % {"here": tmp_path}) for line in found), found


def test_all_missing_files_are_listed_at_once(tiny: Path) -> None:
    names = ("vocab_file", "bert_config_file", "train_file", "predict_file")
    found = findings(flags(tiny, do_train=True, do_predict=True, **{name: "/no/" + name for name in names}))
    assert sorted(line.partition(":")[0] for line in found) == sorted(names)


def test_a_file_that_no_task_reads_may_be_missing(tiny: Path) -> None:
    assert findings(flags(tiny, do_train=True, predict_file="/no/dev.json")) == []


def test_a_vocabulary_of_another_model_is_found(tiny: Path, tmp_path: Path) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text((tiny / "vocab.txt").read_text() + "more\n")
    (found,) = findings(flags(tiny, do_train=True, vocab_file=vocab))
    entries = len(vocab.read_text().splitlines())
    assert found.startswith(f"vocab_file: {vocab} has {entries} entries, ")
    assert "give files of the same model" in found


def test_a_checkpoint_of_other_shapes_is_found(tiny: Path, minilm: Path) -> None:
    found = findings(flags(tiny, do_train=True, init_checkpoint=minilm))
    assert found[0].startswith("init_checkpoint: ") and "shape" in found[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "invalid JSON"), ("[]", "not a JSON object"), ("{}", "vocab_size is missing")],
)
def test_a_configuration_that_is_none_is_found(tiny: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    (found,) = findings(flags(tiny, do_train=True, bert_config_file=path))
    assert found.startswith(f"bert_config_file: {path}: ") and message in found


def test_model_files_are_taken_from_the_checkpoints_folder(minilm: Path) -> None:
    found = with_model_files(SquadFlags(init_checkpoint=str(minilm)))
    assert (found.vocab_file, found.bert_config_file) == (
        str(minilm / "vocab.txt"),
        str(minilm / "config.json"),
    )


def test_the_output_dir_is_wanted_from_whoever_has_no_rank_folder(tiny: Path) -> None:
    wish = flags(tiny, do_train=True)
    assert [key for key, _ in check(wish, {})[1]] == ["output_dir"]
    assert check(wish, {"NPU_LAUNCH_RANK_DIR": "/r"})[1] == []


@pytest.mark.parametrize(("changes", "code"), [({}, 0), ({"train_file": "/no"}, 2)])
def test_the_program_answers_in_json(tiny: Path, changes: Any, code: int) -> None:
    written: list[str] = []
    assert main(flags(tiny, do_train=True, **changes), written.append) == code
    answer = json.loads("".join(written))
    assert [item["key"] for item in answer["findings"]] == (["train_file"] if code else [])


def test_a_note_is_no_finding(tiny: Path) -> None:
    written: list[str] = []
    assert main(flags(tiny, do_train=True, dllog_path="/results/d.json"), written.append) == 0
    answer = json.loads("".join(written))
    assert answer["findings"] == []
    assert answer["notes"] == [
        "dllog_path: has no effect; metrics are written to metrics.jsonl in the rank's folder"
    ]


@pytest.mark.parametrize("name", ["output_dir", "input_files_dir"])
def test_a_folder_that_cannot_be_made_is_found(tiny: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    for path, said in (("file", ""), ("link", ""), ("file/out", f"{tmp_path / 'file'}: ")):
        (found,) = findings(flags(tiny, do_train=True, **{name: tmp_path / path}))
        assert found == f"{name}: {tmp_path / path}: {said}not a folder; give another one"
    assert findings(flags(tiny, do_train=True, **{name: tmp_path / "a" / "b"})) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_found_by_the_rank_that_writes(
    tiny: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    wish = flags(tiny, do_train=True, output_dir=tmp_path / "out")
    (found,) = findings(wish)
    assert (
        found == f"output_dir: {tmp_path / 'out'}: {tmp_path}: not writable by this user; give another one"
    )
    assert findings(wish, RANK_ID="1") == []


def test_a_threshold_of_the_checkpoint_is_for_a_prediction(tiny: Path) -> None:
    _, found, notes = check(
        flags(tiny, do_train=True, null_score_diff_threshold="auto"), {"NPU_LAUNCH_CHECK": "1"}
    )
    assert not found
    assert [key for key, text in notes if "no effect" in text] == ["null_score_diff_threshold"]


def test_it_needs_neither_numpy_nor_tensorflow() -> None:
    code = "import sys, squad.check; assert not {'numpy', 'tensorflow', 'tokenizers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), check=True)
