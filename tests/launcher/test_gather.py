"""Gathering: what ranks announce is brought together whole, or named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.run_dir import RunDir
from launcher.runs.gather import gather


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs" / "a", range(2))


def announce(run: RunDir, rank: int, *records: Any) -> None:
    with run.artifacts(rank).open("a") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)


def checkpoint(run: RunDir, step: int, text: str = "weights", **more: Any) -> list[Path]:
    prefix = run.rank_dir(0) / (f"model.ckpt-{step}")
    files = [prefix.with_name(prefix.name + suffix) for suffix in (".index", ".data-00000-of-00001")]
    for file in files:
        file.write_text(text)
    record = {"kind": "checkpoint", "step": step, "prefix": str(prefix), "files": list(map(str, files))}
    announce(run, 0, dict(record, **more))
    return files


def test_the_newest_checkpoint_is_latest_and_the_manifest_describes_each_file(run: RunDir) -> None:
    checkpoint(run, 10)
    checkpoint(run, 20)
    gathered = gather(run, [0, 1])
    assert not gathered.problems
    assert (run.checkpoints / "latest").read_text() == "model.ckpt-20\n"
    entries = json.loads((run.checkpoints / "manifest.json").read_text())["files"]
    assert [(e["step"], e["rank"], e["size"], len(e["sha256"])) for e in entries] == [
        (10, 0, 7, 64), (10, 0, 7, 64), (20, 0, 7, 64), (20, 0, 7, 64)
    ]  # fmt: skip
    assert gathered.checkpoint == str(run.checkpoints / "model.ckpt-20")


def test_a_checkpoint_that_was_not_kept_is_passed_over(run: RunDir) -> None:
    for file in checkpoint(run, 10):
        file.unlink()
    checkpoint(run, 20)
    gathered = gather(run, [0])
    assert not gathered.problems and not list(run.checkpoints.glob("model.ckpt-10*"))


def test_case_84_a_missing_newest_file_is_named(run: RunDir) -> None:
    checkpoint(run, 10)[0].unlink()
    gathered = gather(run, [0])
    assert "model.ckpt-10.index" in gathered.problems[0] and "rank 0" in gathered.problems[0]
    assert not (run.checkpoints / "latest").exists()


def test_case_84_a_file_with_another_hash_is_named_and_not_taken(run: RunDir) -> None:
    checkpoint(run, 10, sha256={"model.ckpt-10.index": "0" * 64})
    gathered = gather(run, [0])
    assert "sha256" in gathered.problems[0]
    assert not (run.checkpoints / "model.ckpt-10.index").exists()


def test_case_87_files_of_one_name_stay_apart_by_rank(run: RunDir) -> None:
    for rank in (0, 1):
        (run.rank_dir(rank) / "sub").mkdir()
        (run.rank_dir(rank) / "sub" / "x.bin").write_text(str(rank))
        (run.rank_dir(rank) / "y.txt").write_text("no")
    gathered = gather(run, [0, 1], ["**/*.bin"])
    assert [Path(path).read_text() for path in gathered.files] == ["0", "1"]
    assert sorted(p.relative_to(run.gathered).as_posix() for p in run.gathered.rglob("*.bin")) == [
        "rank_0/sub/x.bin", "rank_1/sub/x.bin"
    ]  # fmt: skip


def test_a_pattern_cannot_leave_the_rank_folder(run: RunDir) -> None:
    (run.path / "secret.bin").write_text("x")
    assert gather(run, [0], ["../../*.bin"]).files == ()


def test_case_86_a_full_disk_keeps_the_source(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    files = checkpoint(run, 10)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", full)
    monkeypatch.setattr("shutil.copyfileobj", full)
    gathered = gather(run, [0])
    assert "No space left" in gathered.problems[0]
    assert all(file.read_text() == "weights" for file in files)


def test_metrics_of_the_ranks_become_one_set_and_a_torn_line_is_passed_over(run: RunDir) -> None:
    announce(run, 0, {"kind": "metrics", "values": {"f1": 80.5}})
    with run.artifacts(0).open("a") as stream:
        stream.write('{"kind": "metr')
    assert gather(run, [0, 1]).metrics == {"f1": 80.5}


def test_a_rank_that_announced_nothing_gives_nothing(run: RunDir) -> None:
    gathered = gather(run, [0, 1])
    assert gathered.metrics is None and not gathered.checkpoint and not gathered.problems


def test_the_run_folder_is_the_owners_alone_and_never_reused(run: RunDir) -> None:
    assert run.path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        RunDir.create(run.path, range(1))
