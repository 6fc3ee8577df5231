"""How a model is asked travels with its checkpoints and exports."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from bert import export
from squad import task
from squad.task import Task


def test_a_checkpoint_its_folder_and_its_export_say_how_it_is_asked(finished: str, tmp_path: Path) -> None:
    asked = Task(64, 16, 24, version_2_with_negative=True, word_split="google")
    threshold = task.read(finished).threshold  # another test may have searched it
    assert task.read(finished) == dataclasses.replace(asked, threshold=threshold)
    folder = Path(finished).parent
    said = json.loads((folder / "config.json").read_text())["task_specific_params"]
    assert said == {"squad": task.to_json(asked)}
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 64
    assert export.main([finished, str(tmp_path / "exported")]) == 0
    assert task.read(str(tmp_path / "exported")) == dataclasses.replace(asked, threshold=threshold)
    assert json.loads((tmp_path / "exported" / "tokenizer_config.json").read_text())["model_max_length"] == 64


def test_the_checkpoints_own_record_comes_before_the_folders_file(tmp_path: Path) -> None:
    said = {"task_specific_params": {"squad": {"max_seq_length": 128}, "translation": {}}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert task.read(str(tmp_path)) == Task(max_seq_length=128)
    (tmp_path / "model.ckpt-9.json").write_text('{"task": {"max_seq_length": 96, "threshold": -1.5}}')
    assert task.recorded(str(tmp_path / "model.ckpt-9")) == {"max_seq_length": 96, "threshold": -1.5}
    assert task.read(str(tmp_path / "model.ckpt-8")) == Task(max_seq_length=128)


@pytest.mark.parametrize("text", ["{}", "[", '{"task_specific_params": 3}', '{"task_specific_params": null}'])
def test_files_that_say_nothing_leave_the_defaults(tmp_path: Path, text: str) -> None:
    assert task.read(str(tmp_path)) == Task()
    (tmp_path / "config.json").write_text(text)
    assert task.read(str(tmp_path)) == Task()


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_seq_length", 0), ("doc_stride", "128"), ("n_best_size", True), ("threshold", float("nan")),
     ("word_split", "thai"), ("version_2_with_negative", 1)],
)  # fmt: skip
def test_a_damaged_setting_is_named(tmp_path: Path, name: str, value: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"task_specific_params": {"squad": {name: value}}}))
    with pytest.raises(ValueError, match=name):
        task.read(str(tmp_path))
