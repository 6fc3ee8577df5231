"""What the launcher reads of a rank while it runs: no content and no kind of file costs more than itself."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.diagnosis import plog
from launcher.diagnosis.failure import read_error, read_torch_error
from launcher.errors import MissingFileError, ReadError
from launcher.heartbeat import Beat, Counters, read_beat
from launcher.run_dir import RunDir
from launcher.supervision.rank_files import RankFile, RankFiles


@pytest.mark.parametrize(
    ("text", "beat"),
    [
        ('{"step": 12, "phase": "train", "time": 1.5}', Beat(12, 12, "train")),
        ('{"step": 13, "phase": "predict", "train_step": 480}', Beat(13, 480, "predict")),
        ('{"step": 0, "train_step": 480, "phase": "answers"}', Beat(0, 480, "answers")),
        ('{"step": 12.0}', Beat(12, 12, "")),
        ('{"time": []}', Beat(0, 0, "")),
        ('{"step": 3, "total_steps": 90, "steps": 3}', Beat(3, 3, "", 90)),
        (
            '{"step": 3, "time": 9.5, "steps": 3, "own_s": 1, "wait_s": null}',
            Beat(3, 3, "", 0, Counters(9.5, 3, 0, 0, 0.0, 1.0, None, 0.0)),
        ),
        (
            '{"step": 3, "time": 9, "steps": 3, "examples": 12, "tokens": 99, "input_s": 0.5, "own_s": 1,'
            ' "wait_s": 0.25, "save_s": 2}',
            Beat(3, 3, "", 0, Counters(9.0, 3, 12, 99, 0.5, 1.0, 0.25, 2.0)),
        ),
    ],
)
def test_a_heartbeat_is_read_with_its_training_step(tmp_path: Path, text: str, beat: Beat) -> None:
    (tmp_path / "heartbeat.json").write_text(text)
    assert read_beat(tmp_path / "heartbeat.json") == beat


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"step": Infinity}', "a number out of range"),
        ('{"step": NaN}', "a number out of range"),
        ('{"step": 1e400}', "step: a number out of range"),
        ('{"step": %d}' % 10**400, "step: a number out of range"),  # noqa: UP031
        ('{"step": -1}', "step: a number out of range"),
        ('{"step": 0.5}', "step: a number out of range"),
        ('{"step": "5"}', "step: a text (expected a number)"),
        ('{"step": true}', "step: true or false (expected a number)"),
        ('{"step": null}', "step: null (expected a number)"),
        ('{"step": 5, "train_step": []}', "train_step: a list (expected a number)"),
        ('{"step": 5, "phase": null}', "phase: null (expected a text)"),
        ('{"step": 5, "steps": 5, "own_s": -1, "time": 1}', "own_s: a negative number"),
        ('{"step": 5, "steps": 5, "own_s": 1, "time": null}', "time: null (expected a number)"),
        ('{"step": 5, "steps": 5, "own_s": "1", "time": 1}', "own_s: a text (expected a number)"),
        ("[5]", "a list (expected an object)"),
        ("[" * 100000, "nested too deeply"),
        ('{"step": 5', "line 1"),
        ("", "empty"),
        (" " * ((1 << 20) + 1), "more than 1024 KiB"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_heartbeat_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "heartbeat.json").write_text(text)
    with pytest.raises(ReadError) as caught:
        read_beat(tmp_path / "heartbeat.json")
    assert said in str(caught.value)


NAMES = st.sampled_from(
    ["step", "train_step", "phase", "monotonic_ns", "type", "message", "traceback", "thread", "fatal"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, ANYTHING), st.integers(0, 200))
def test_any_record_is_read_or_refused_in_one_line(record: Any, cut: int) -> None:
    data = json.dumps(record).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "record.json")
        path.write_bytes(data[: len(data) - cut // 10])
        for read in (read_beat, read_error, read_torch_error):
            try:
                read(path)
            except ReadError as error:
                assert "\n" not in str(error)


class Watched:
    """A heartbeat that is watched, and the faults that were reported of it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.faults = folder / "heartbeat.json", [""][:0]
        self.file = RankFile(self.path, read_beat, self.faults.append)

    def write(self, text: str, at: int) -> None:
        self.path.write_text(text)
        os.utime(str(self.path), ns=(at, at))


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_file_is_read_when_it_has_changed(watched: Watched) -> None:
    assert not watched.file.refresh() and watched.file.value is None
    watched.write('{"step": 1}', at=1)
    assert watched.file.refresh() and not watched.file.refresh()
    watched.write('{"step": 22}', at=1)  # within one tick of the file system's clock
    assert watched.file.refresh() and watched.file.value == Beat(22, 22, "")
    watched.path.unlink()
    assert not watched.file.refresh() and watched.file.value == Beat(22, 22, "")


def test_half_a_file_that_is_still_being_written_is_no_fault(watched: Watched) -> None:
    watched.write('{"step"', at=1)
    assert watched.file.refresh() and watched.faults == []
    watched.write('{"step": 1}', at=2)
    assert watched.file.refresh() and watched.faults == [] and watched.file.value is not None


def test_half_a_file_that_stays_is_a_fault_and_the_last_good_value_remains(watched: Watched) -> None:
    watched.write('{"step": 1}', at=1)
    watched.file.refresh()
    watched.write('{"step"', at=2)
    assert [watched.file.refresh() for _ in range(4)] == [True, False, False, False]
    assert len(watched.faults) == 1 and watched.file.value == Beat(1, 1, "")


def test_what_a_rank_leaves_at_its_end_is_judged_at_once(watched: Watched) -> None:
    os.mkfifo(str(watched.path))
    watched.file.refresh(last=True)
    assert watched.faults == [f"{watched.path}: a FIFO (expected a regular file)"]


def test_a_folder_that_cannot_be_searched_is_a_fault(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    watched.write('{"step": 1}', at=1)
    monkeypatch.setattr(os, "lstat", refuse)
    for _ in range(3):
        watched.file.refresh()
    assert watched.faults == [f"{watched.path}: Permission denied"]


@pytest.mark.parametrize("blocked", [False, True])
def test_the_next_attempt_does_not_read_what_the_last_one_left(tmp_path: Path, blocked: bool) -> None:
    run = RunDir.create(tmp_path / "run", [0])
    run.heartbeat(0).write_text('{"step": 7}')
    if blocked:
        (run.rank_dir(0) / "heartbeat.json.0" / "x").mkdir(parents=True)
    files = RankFiles.of(run, 0, lambda rank, path, why: None)
    files.make_room(run.rank_dir(0), 0)
    assert not files.heartbeat.refresh(last=True) and files.heartbeat.value is None
    run.heartbeat(0).write_text('{"step": 8}')
    assert files.heartbeat.refresh() and files.heartbeat.value == Beat(8, 8, "")


def test_a_rank_folder_that_is_a_link_is_neither_read_nor_changed(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", [0])
    run.heartbeat(0).write_text('{"step": 7}')
    (run.path / "ranks" / "1").symlink_to("0")
    files = RankFiles.of(run, 1, lambda rank, path, why: None)
    with pytest.raises(ReadError, match=r"ranks/1: a link \(expected a folder\)"):
        read_beat(run.heartbeat(1))
    files.make_room(run.rank_dir(1), 0)
    assert run.heartbeat(0).exists()


def test_the_logs_of_cann_are_read_without_waiting_and_without_leaving_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "plog"
    (folder / "run" / "plog").mkdir(parents=True)
    (folder / "run" / "plog" / "plog-1_2.log").write_text("x" * plog.BYTES + "EI0002")
    os.mkfifo(str(folder / "plog-3_4.log"))
    (folder / "device-0_5.log").symlink_to("/etc/passwd")
    (folder / "elsewhere").symlink_to("/")
    deep = folder
    for _ in range(40):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "plog-6_7.log").write_text("too deep")
    texts, faults = plog.read_all(folder)
    assert [text[-8:] for text in texts] == ["xxEI0002"] and len(texts[0]) == plog.BYTES
    assert sorted(fault.rpartition("/")[2][:22] for fault in faults) == [
        "device-0_5.log: a link",
        "plog-3_4.log: a FIFO (",
    ]
    (tmp_path / "link").symlink_to(folder)
    assert plog.read_all(tmp_path / "link") == ([], []) == plog.read_all(tmp_path / "none")


def test_a_missing_record_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    for read in (read_beat, read_error, read_torch_error):
        with pytest.raises(MissingFileError):
            read(tmp_path / "none.json")
