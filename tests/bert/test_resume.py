"""A run that is killed and started again ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert.checkpoints import reader, resume, store
from bert.checkpoints.resume import Origin
from bert.checkpoints.store import Saved
from bert.errors import CheckpointError
from tests.bert.runs import MODEL, Job, losses, records, settings, train

SHORT = settings(num_train_steps=4, save_checkpoints_steps=2)
LONG = settings(num_train_steps=60, save_checkpoints_steps=7)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Give the losses of SHORT."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(folder, SHORT)
    return losses(folder)


def _weights(folder: Path, step: int) -> dict[str, np.ndarray]:
    return dict(reader.read(str(folder / "out" / (f"model.ckpt-{step}"))))


def _killed(folder: Path, config: Any, ranks: int = 1, kills: int = 5) -> Job:
    """Start a run again and again, killed at moments that a seed picks, then let it end."""
    moments = random.Random(ranks)
    for kill in range(1, kills + 1):
        job = Job(folder, config, ranks)
        job.until(kill * config.num_train_steps // (kills + 1) + moments.randrange(7))
        job.kill()
    job = Job(folder, config, ranks)
    assert job.wait() == [0] * ranks, job.output()
    return job


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [False, True], ids=["debug", "dropout"])
def test_a_run_killed_five_times_ends_bit_for_bit_like_an_uninterrupted_one(
    tmp_path: Path, dropout: bool
) -> None:
    config = settings(num_train_steps=60, save_checkpoints_steps=7, dropout=dropout, npu_bert_loss_scale=0)
    whole = Job(tmp_path / "whole", config)
    killed = _killed(tmp_path / "killed", config)
    assert whole.wait() == [0], whole.output()
    assert killed.output().count("resuming") >= 3
    for step, record in records(tmp_path / "whole").items():
        again = records(tmp_path / "killed")[step]
        for name in ("loss", "learning_rate", "gradient_norm", "loss_scale", "skipped_steps", "epoch"):
            assert again[name] == record[name], (step, name)
    mine, theirs = _weights(tmp_path / "killed", 60), _weights(tmp_path / "whole", 60)
    assert set(mine) == set(theirs)
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


@pytest.mark.slow
def test_two_ranks_killed_three_times_end_like_uninterrupted_ones(tmp_path: Path) -> None:
    whole = Job(tmp_path / "whole", LONG, 2)
    killed = _killed(tmp_path / "killed", LONG, 2, kills=3)
    assert whole.wait() == [0, 0], whole.output()
    assert killed.output().count("resuming") >= 2
    for rank in (0, 1):
        expected = losses(tmp_path / "whole", rank)
        np.testing.assert_allclose(losses(tmp_path / "killed", rank), expected, rtol=1e-6)


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_run_killed_while_it_saves_uses_the_checkpoint_before(
    tmp_path: Path, call: int, uninterrupted: list[float]
) -> None:
    """Each checkpoint moves four files: data, index, JSON, and TensorFlow's pointer."""
    job = Job(tmp_path, SHORT, die_at_replace=4 + call)
    assert job.wait() == [-signal.SIGKILL]
    saved, problems = store.newest(str(tmp_path / "out"))
    assert saved is not None and not problems
    assert saved.step == (4 if call == 4 else 2)
    result = train(tmp_path, SHORT)
    assert result.step == 4
    assert not [name for name in os.listdir(str(tmp_path / "out")) if name.startswith(".saving")]
    assert losses(tmp_path) == pytest.approx(uninterrupted, rel=1e-6)


def test_another_number_of_ranks_goes_on_with_the_same_rows(
    tmp_path: Path, uninterrupted: list[float]
) -> None:
    job = Job(tmp_path, SHORT, ranks=2, die_at_replace=5)
    job.processes[0].join(60)
    job.kill()
    assert store.newest(str(tmp_path / "out"))[0].step == 2
    train(tmp_path, SHORT)
    np.testing.assert_allclose(losses(tmp_path), uninterrupted, rtol=1e-5)


def test_steps_of_another_size_are_counted_anew() -> None:
    facts = {"step": 13, "config": {"rows_per_step": 8, "steps_per_epoch": 10}}
    same = resume.position(Saved("p", facts), settings())
    assert same == (13, "")
    # An epoch of 80 rows and 24 more were read.
    halved, text = resume.position(Saved("p", facts), settings(rows_per_step=4, steps_per_epoch=20))
    assert halved == 26 and "again" not in text
    larger, text = resume.position(Saved("p", facts), settings(rows_per_step=16, steps_per_epoch=5))
    assert larger == 6 and "8 rows are read again" in text


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    config = SHORT
    before = train(tmp_path, config)
    data = next((tmp_path / "out").glob("model.ckpt-4.data*"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    capfd.readouterr()
    after = train(tmp_path, config)
    output = capfd.readouterr().out
    assert f"{data}: damaged" in output and f"resuming {tmp_path / 'out' / 'model.ckpt-2'}" in output
    assert after == before
    assert store.verify(after.checkpoint)[0] == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scalars", None), ("scalars", {"skipped_steps": []}), ("loss", "x"), ("ranks", None), ("model", []),
        ("config", {"rows_per_step": 4}), ("init_checkpoint", {}), ("evaluation", {"best": {"f1": "x"}}),
        ("evaluation", {"done": "x"}), ("evaluation", []),
    ],
)  # fmt: skip
def test_a_checkpoint_whose_json_is_not_as_it_was_written_is_damaged(name: str, value: Any) -> None:
    good: dict[str, Any] = {
        "model": {}, "config": {"rows_per_step": 4, "steps_per_epoch": 2}, "scalars": {"skipped_steps": 0},
        "loss": 1.5, "ranks": 1, "init_checkpoint": {"path": "", "fingerprint": ""},
    }  # fmt: skip
    assert resume._lacks(good) == ""
    assert resume._lacks({**good, "evaluation": {"done": 1, "best": {"f1": 3}}}) == ""
    assert name in resume._lacks({**good, name: value})


def test_a_json_without_scalars_is_named_and_the_checkpoint_before_is_used(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    before = train(tmp_path, SHORT)
    path = tmp_path / "out" / "model.ckpt-4.json"
    facts = json.loads(path.read_text())
    del facts["scalars"]
    path.write_text(json.dumps(facts))
    capfd.readouterr()
    assert train(tmp_path, SHORT) == before
    output = capfd.readouterr().out
    assert f"{path}: damaged, scalars is not as it was written; using the one before" in output


def test_a_run_is_never_begun_anew_because_all_its_checkpoints_are_damaged(tmp_path: Path) -> None:
    config = settings(num_train_steps=2)
    result = train(tmp_path, config)
    Path(result.checkpoint + ".index").unlink()
    with pytest.raises(CheckpointError, match=r"index: No such file.*empty the folder"):
        train(tmp_path, config)


def test_predicting_from_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    prefix = train(tmp_path, settings(num_train_steps=1)).checkpoint
    data = Path(prefix + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"sha256"):
        list(reader.read(prefix))


def test_a_finished_run_says_so_and_does_nothing(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    config = settings(num_train_steps=3)
    first = train(tmp_path, config)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    capfd.readouterr()
    assert train(tmp_path, config) == first
    assert "already trained to step 3 of 3; nothing to do" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_more_steps_go_on_from_a_finished_run(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    train(tmp_path, settings(num_train_steps=2))
    assert train(tmp_path, settings(num_train_steps=3)).step == 3
    assert "num_train_steps is 3 now, was 2" in capfd.readouterr().out
    assert sorted(records(tmp_path)) == [1, 2, 3]


def test_an_init_checkpoint_is_never_silently_overridden(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    other = train(tmp_path / "a", settings(num_train_steps=1)).checkpoint
    another = train(tmp_path / "b", settings(num_train_steps=1, seed=7)).checkpoint
    config = settings(num_train_steps=4, save_checkpoints_steps=2)
    train(tmp_path / "c", settings(num_train_steps=2), init_checkpoint=other)
    with pytest.raises(CheckpointError, match=r"started from .*/a/.*, not from .*/b/.*another output_dir"):
        train(tmp_path / "c", config, init_checkpoint=another)
    capfd.readouterr()
    assert train(tmp_path / "c", config, init_checkpoint=other).step == 4
    assert "this run started from it; it is not loaded again" in capfd.readouterr().out
    with pytest.raises(CheckpointError, match=r"started from new weights"):
        train(tmp_path / "b", config, init_checkpoint=other)


def _origin(**data: Any) -> Origin:
    """Give the data of a run; a file is written as its hash."""
    files = {name: {"name": name + ".txt", "sha256": "1" * 64} for name in ("train_file", "vocabulary")}
    return Origin({**files, "do_lower_case": True, "max_seq_length": 384, **data}, {"config.json": "{}\n"})


def test_other_data_is_refused_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    train(tmp_path, settings(num_train_steps=1), origin=_origin())
    for name, value, text in (
        ("train_file", {"name": "b.json", "sha256": "3" * 64}, "train_file is b.json .sha256 3{12}. now"),
        ("vocabulary", {"name": "v", "sha256": "3" * 64}, "vocabulary is v"),
        ("do_lower_case", False, "do_lower_case is False now, was True"),
    ):
        with pytest.raises(CheckpointError, match=f"at step 1 of other data: {text}.*another output_dir"):
            train(tmp_path, settings(num_train_steps=2), origin=_origin(**{name: value}))
    moved = {"name": "moved.json", "sha256": "1" * 64}
    assert train(tmp_path, settings(num_train_steps=2), origin=_origin(train_file=moved)).step == 2


def test_other_lengths_are_said_and_an_old_run_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    train(tmp_path, settings(num_train_steps=1))
    assert train(tmp_path, settings(num_train_steps=2), origin=_origin()).step == 2
    assert "does not say from which data it was trained" in capfd.readouterr().out
    train(tmp_path, settings(num_train_steps=3), origin=_origin(max_seq_length=128))
    output = capfd.readouterr().out
    assert "max_seq_length is 128 now, was 384" in output and "does not say" not in output


def test_what_predicting_needs_is_written_beside_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr("bert.heartbeat.artifact", found.append)
    train(tmp_path, settings(num_train_steps=1), origin=_origin())
    path = tmp_path / "out" / "config.json"
    assert path.read_text() == "{}\n"
    assert str(path) in found[0]["files"]


def test_a_run_may_be_given_its_own_newest_checkpoint(tmp_path: Path) -> None:
    newest = train(tmp_path, settings(num_train_steps=1)).checkpoint
    assert train(tmp_path, settings(num_train_steps=2), init_checkpoint=newest).step == 2
    with pytest.raises(CheckpointError, match="started from new weights"):  # it is not the newest any more
        train(tmp_path, settings(num_train_steps=3), init_checkpoint=newest)


def test_a_folder_with_a_run_of_another_model_is_refused(tmp_path: Path) -> None:
    import dataclasses

    train(tmp_path, settings(num_train_steps=1))
    with pytest.raises(CheckpointError, match=r"another model .intermediate_size 24, now 32"):
        train(tmp_path, settings(), model=dataclasses.replace(MODEL, intermediate_size=32))


def test_a_checkpoint_of_another_program_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    prefix = train(tmp_path / "a", settings(num_train_steps=1)).checkpoint
    (tmp_path / "out").mkdir()
    for path in Path(prefix).parent.glob("model.ckpt-1.[di]*"):
        path.rename(tmp_path / "out" / path.name.replace("-1", "-8200"))
    assert train(tmp_path, settings(num_train_steps=1)).step == 1
    assert "model.ckpt-8200: not written by this program, so not resumed" in capfd.readouterr().out
    assert (tmp_path / "out" / "model.ckpt-8200.index").exists()


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    train(tmp_path, settings(num_train_steps=7, save_checkpoints_steps=2, keep_checkpoints=3))
    names = sorted(path.name for path in (tmp_path / "out").glob("*.index"))
    assert names == ["model.ckpt-4.index", "model.ckpt-6.index", "model.ckpt-7.index"]
    pointer = (tmp_path / "out" / "checkpoint").read_text()
    assert pointer == 'model_checkpoint_path: "model.ckpt-7"\n'


@pytest.mark.parametrize("ranks", [1, 2])
def test_sigterm_saves_and_exits_143(tmp_path: Path, ranks: int) -> None:
    """With several ranks, one of which gets the signal, all end at the same step."""
    config = settings(num_train_steps=100000)
    job = Job(tmp_path, config, ranks)
    job.until(3)
    os.kill(job.processes[-1].pid, signal.SIGTERM)
    assert job.wait() == [143] * ranks, job.output()
    saved, _ = store.newest(str(tmp_path / "out"))
    assert saved is not None and saved.step == max(records(tmp_path)) == max(records(tmp_path, ranks - 1))
    assert f"SIGTERM: saved {saved.prefix} at step {saved.step}" in job.output()


def test_sigterm_ends_a_rank_whose_peer_is_dead(tmp_path: Path) -> None:
    job = Job(tmp_path, settings(num_train_steps=100000), ranks=2)
    job.until(3)
    job.kill([1])
    os.kill(job.processes[0].pid, signal.SIGTERM)
    assert job.wait(60) == [143, -signal.SIGKILL]
    assert "exiting without a checkpoint" in job.output()
    assert store.newest(str(tmp_path / "out"))[0] is None
