"""Gathering: what ranks announce is brought together whole, or named."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize("pattern", ["../../*.bin", "/etc/hostname", "sub/../../x", "\0"])
def test_a_pattern_that_leads_out_of_the_rank_folder_is_refused(run: RunDir, pattern: str) -> None:
    (run.path / "secret.bin").write_text("x")
    gathered = gather(run, [0], [pattern])
    assert gathered.files == () and "leads out of the rank's folder" in gathered.problems[0]


def names(run: RunDir) -> list[str]:
    base = run.gathered / "rank_0"
    return sorted(path.relative_to(base).as_posix() for path in base.rglob("*") if not path.is_dir())


@pytest.fixture
def linked(run: RunDir, tmp_path: Path) -> Path:
    """Fill the folder of rank 0 with files and links in it, out of it, to nowhere and around."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "d.json").write_text("theirs")
    folder = run.rank_dir(0)
    for name in ("blobs", "snap", ".hidden"):
        (folder / name).mkdir()
    (folder / "own.json").write_text("own")
    (folder / "blobs" / "abc.json").write_text("blob")
    (folder / ".hidden" / "x.json").write_text("no")
    for name, target in {
        "snap/model.json": "../blobs/abc.json",
        "data": str(tmp_path / "data"),
        "out.json": str(tmp_path / "data" / "d.json"),
        "loop": ".",
        "snap/up": "..",
        "itself": "itself",
        "latest": "blobs",
        "gone.json": "nothing",
    }.items():
        (folder / name).symlink_to(target)
    os.mkfifo(str(folder / "pipe.json"))
    return folder


def test_any_depth_goes_through_no_link_and_says_what_it_passed_over(run: RunDir, linked: Path) -> None:
    gathered = gather(run, [0], ["**/*.json"])
    assert names(run) == ["blobs/abc.json", "own.json", "snap/model.json"]
    model = run.gathered / "rank_0" / "snap" / "model.json"
    assert not model.is_symlink() and model.samefile(linked / "blobs" / "abc.json")
    assert gathered.problems == ("rank 0: out.json: a link out of the rank's folder; not followed",)
    assert gathered.notes == (
        "rank 0: a link out of the rank's folder; not followed: data",
        "rank 0: a link to nothing: gone.json",
        "rank 0: no regular file: pipe.json",
    )


@pytest.mark.parametrize(
    "pattern, found, problem",
    [
        ("data/*.json", [], "data: a link out of the rank's folder; not followed"),
        ("latest/*", ["latest/abc.json"], ""),
        ("blobs/**", ["blobs/abc.json"], ""),
        ("loop/own.json", ["loop/own.json"], ""),
        ("*/[a]bc.json", ["blobs/abc.json", "latest/abc.json"], ""),
        ("blobs", [], "blobs: a folder (expected a file); write blobs/** for all in it"),
        ("gone.json", [], "gone.json: a link to nothing"),
        ("pipe.json", [], "pipe.json: no regular file"),
        (".hidden/*", [".hidden/x.json"], ""),
        ("nothing/*", [], ""),
        ("", [], ""),
    ],
)
def test_a_pattern_follows_links_within_the_folder(
    run: RunDir, linked: Path, pattern: str, found: list[str], problem: str
) -> None:
    gathered = gather(run, [0], [pattern])
    assert names(run) == found
    assert gathered.problems == ((f"rank 0: {problem}",) if problem else ())


def test_links_that_lead_to_each_other_come_to_an_end(run: RunDir) -> None:
    folder = run.rank_dir(0)
    for number in range(12):
        (folder / f"link{number}").symlink_to(".")
    (folder / "x").write_text("")
    gathered = gather(run, [0], ["*/*/*/*/*/*/*/*/x"])
    assert "more than 100 links lead to this folder" in gathered.problems[0]
    assert len(gathered.problems) == 11


def test_folders_without_end_are_not_searched_for_ever(run: RunDir) -> None:
    folder = os.path.join(str(run.rank_dir(0)), *["d"] * 120)
    os.makedirs(folder)
    (Path(folder) / "x").write_text("")
    (problem,) = gather(run, [0], ["**/x"]).problems
    assert problem.endswith("more than 100 folders deep; not searched")


def test_a_rank_folder_that_is_a_link_is_not_gathered(run: RunDir, tmp_path: Path) -> None:
    run.rank_dir(0).rmdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("theirs")
    run.rank_dir(0).symlink_to(tmp_path / "data")
    gathered = gather(run, [0], ["*"])
    assert not gathered.files and "a link (expected a folder)" in " ".join(gathered.problems)


BAD = [
    '{"kind": "checkpoint"}',
    '{"kind": "checkpoint", "step": true, "prefix": "a", "files": ["a"]}',
    '{"kind": "checkpoint", "step": 1, "prefix": "", "files": ["a"]}',
    '{"kind": "checkpoint", "step": 1, "prefix": "a", "files": []}',
    '{"kind": "checkpoint", "step": 1, "prefix": "a", "files": ["a"], "sha256": {"a": "zz"}}',
    '{"kind": "predictions", "files": [["a"]]}',
    '{"kind": "predictions", "files": ["a\\u0000b"]}',
    '{"kind": "predictions", "files": ["\\ud800"]}',
    '{"kind": "metrics", "values": {"f1": "80"}}',
    '{"kind": "metrics", "f1": Infinity}',
    '{"kind": "metrics", "f1": 1%s}' % ("0" * 400),
    '{"kind": "other"}',
    "[]",
    "[" * 100000,
    "\xff",
    '{"kind": "metr',
]


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named_once_and_costs_nothing_else(run: RunDir, line: str) -> None:
    announce(run, 0, {"kind": "metrics", "values": {"a": 1}})
    with run.artifacts(0).open("ab") as stream:
        stream.write(b"\n" + line.encode("latin-1") + b"\n")
    announce(run, 0, {"kind": "metrics", "values": {"b": 2.5}})
    gathered = gather(run, [0])
    assert gathered.metrics == {"a": 1, "b": 2.5}
    (problem,) = gathered.problems
    assert problem.startswith("rank 0: artifacts.jsonl line 3: ") and len(problem) < 300


TEXTS = st.text(max_size=3) | st.sampled_from(["own", "/", ".."])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["checkpoint", "predictions", "metrics"]) | JSON},
    optional=dict.fromkeys(("step", "prefix", "files", "sha256", "values"), JSON),
)


@given(st.lists(RECORDS.map(lambda record: json.dumps(record).encode()) | st.binary(max_size=40), max_size=4))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_report_ends_the_gathering(run: RunDir, lines: list[bytes]) -> None:
    (run.rank_dir(0) / "own").write_text("")
    run.artifacts(0).write_bytes(b"\n".join(lines))
    gathered = gather(run, [0])
    assert all(text.startswith("rank 0: ") for text in gathered.problems)
    json.dumps(asdict(gathered), allow_nan=False)


def test_many_bad_lines_are_counted(run: RunDir) -> None:
    run.artifacts(0).write_text("x\n" * 1000)
    problems = gather(run, [0]).problems
    assert len(problems) == 11 and "990 more lines" in problems[-1]


def test_a_last_line_is_cut_off_without_a_word_only_when_its_rank_was_killed(run: RunDir) -> None:
    run.artifacts(0).write_text('{"kind": "metr')
    assert "line 1" in gather(run, [0]).problems[0]
    assert gather(run, [0], ended_well=False).problems == ()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_no_report_and_no_checkpoint(run: RunDir, make: Any) -> None:
    make(str(run.artifacts(1)))
    make(str(run.rank_dir(0) / "a"))
    announce(run, 0, {"kind": "predictions", "files": ["a", "b" * 300]})
    problems = gather(run, [0, 1]).problems
    assert [problem[:7] for problem in problems] == ["rank 1:", "rank 0:", "rank 0:"]
    assert all("expected a regular file" in text for text in problems[:2]) and "too long" in problems[2]


def predictions(run: RunDir, rank: int, folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.json").write_text(text)
    announce(run, rank, {"kind": "predictions", "files": [str(folder / "predictions.json")]})
    return folder / "predictions.json"


def test_files_of_one_name_are_each_kept_and_equal_ones_are_one(run: RunDir, tmp_path: Path) -> None:
    for rank, folder, text in ((0, "a", "1"), (1, "b", "2"), (1, "c", "3"), (1, "d", "1"), (0, "e", "1")):
        predictions(run, rank, tmp_path / folder, text)
    gathered = gather(run, [0, 1])
    assert not gathered.problems
    found = {
        os.path.relpath(path, str(run.predictions)): Path(path).read_text() for path in gathered.predictions
    }
    assert found == {
        "predictions.json": "1",
        "rank_1/predictions.json": "2",
        "rank_1.2/predictions.json": "3",
    }


def test_a_small_file_of_the_users_is_copied_as_it_may_be_written_anew(run: RunDir, tmp_path: Path) -> None:
    theirs = predictions(run, 0, tmp_path / "out", "of this run")
    (path,) = gather(run, [0]).predictions
    theirs.write_text("of the next run")
    assert Path(path).read_text() == "of this run"


def test_a_relative_path_is_of_the_folder_where_the_rank_was_started_or_of_its_own(
    run: RunDir, tmp_path: Path
) -> None:
    (run.rank_dir(0) / "own").write_text("0")
    (tmp_path / "out").write_text("1")
    for name in ("own", "out", "none"):
        announce(run, 0, {"kind": "predictions", "files": [name]})
    gathered = gather(run, [0], cwds={0: str(tmp_path)})
    assert [Path(path).read_text() for path in gathered.predictions] == ["0", "1"]
    assert gathered.problems == (f"rank 0: {tmp_path}/none: no such file",)


def test_a_link_that_a_rank_reported_is_resolved(run: RunDir) -> None:
    (run.rank_dir(0) / "blob").write_text("bytes")
    (run.rank_dir(0) / "model.bin").symlink_to("blob")
    announce(run, 0, {"kind": "predictions", "files": ["model.bin"]})
    (path,) = gather(run, [0]).predictions
    assert not os.path.islink(path) and Path(path).read_text() == "bytes"


def test_what_is_there_already_is_not_overwritten(run: RunDir, tmp_path: Path) -> None:
    """Not even by a file that is called as one of npu-launch's own, nor through a link."""
    (tmp_path / "precious").mkdir()
    (run.checkpoints / "rank_0").symlink_to(tmp_path / "precious")
    for name in ("latest", "manifest.json"):
        (run.rank_dir(0) / name).write_text("x")
    record = {"kind": "checkpoint", "step": 1, "prefix": "latest", "files": ["latest", "manifest.json"]}
    announce(run, 0, record)
    gathered = gather(run, [0])
    assert "leads out of the run folder" in gathered.problems[0] and not gathered.checkpoint
    (run.rank_dir(0) / "a").write_text("x")
    run.gathered.symlink_to(tmp_path / "precious")
    assert "leads out of the run folder" in gather(run, [0], ["a"]).problems[-1]
    assert not list((tmp_path / "precious").iterdir())


def test_checkpoints_of_several_ranks_with_one_name_stay_whole(run: RunDir) -> None:
    for rank in (1, 0):
        (run.rank_dir(rank) / "out").mkdir()
        for name in ("m-5.index", "m-5.data"):
            (run.rank_dir(rank) / "out" / name).write_text(name if name == "m-5.index" else str(rank))
        files = ["out/m-5.index", "out/m-5.data"]
        announce(run, rank, {"kind": "checkpoint", "step": 5, "prefix": "out/m-5", "files": files})
    gathered = gather(run, [0, 1])
    assert gathered.checkpoint == str(run.checkpoints / "m-5")
    assert (run.checkpoints / "m-5.data").read_text() == "0"
    assert (run.checkpoints / "rank_1" / "m-5.data").read_text() == "1"
    assert (run.checkpoints / "rank_1" / "m-5.index").exists()


def test_checkpoints_in_folders_of_their_own_keep_them(run: RunDir) -> None:
    for step in (1, 2):
        (run.rank_dir(0) / f"step-{step}").mkdir()
        (run.rank_dir(0) / f"step-{step}" / "model.bin").write_text(str(step))
        files = [f"step-{step}/model.bin"]
        announce(run, 0, {"kind": "checkpoint", "step": step, "prefix": f"step-{step}", "files": files})
    assert gather(run, [0]).checkpoint == str(run.checkpoints / "step-2")
    assert (run.checkpoints / "step-1" / "model.bin").read_text() == "1"


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
