"""What is added to a checkpoint's JSON after it was written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bert.checkpoints import store
from bert.errors import CheckpointError


def _write(prefix: str) -> None:
    Path(prefix + ".index").write_text("held")


def test_a_checkpoint_stays_whole_when_values_are_added(tmp_path: Path) -> None:
    saved = store.save(str(tmp_path), 3, _write, {"loss": 1.5, "threshold": None}, keep=1)
    store.amend(saved.prefix, {"threshold": {"f1": -0.5}, "note": "é"})
    problem, facts = store.verify(saved.prefix)
    assert not problem
    assert (facts["loss"], facts["threshold"], facts["note"]) == (1.5, {"f1": -0.5}, "é")
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "model.ckpt-3.index", "model.ckpt-3.json"]


def test_what_cannot_be_amended_is_named_and_not_made(tmp_path: Path) -> None:
    prefix = str(tmp_path / "model.ckpt-1")
    with pytest.raises(CheckpointError, match=r"model.ckpt-1.json: No such file"):
        store.amend(prefix, {"a": 1})
    assert not os.listdir(tmp_path)
    Path(prefix + ".json").write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match=r"model.ckpt-1.json: not a JSON object"):
        store.amend(prefix, {"a": 1})
