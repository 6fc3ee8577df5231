"""Logs of many ranks in few open files, and what other commands read of ranks on other hosts."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import LauncherError, ReadError
from launcher.hosts import merged_logs
from launcher.hosts.merged_logs import Header, MergedLogs, header
from launcher.run_dir import RunDir
from launcher.runs import remote, stop
from launcher.ui.console import Console


@pytest.mark.parametrize("limit", [0, 40])
def test_logs_beyond_the_limit_of_open_files_are_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    run = RunDir.create(tmp_path / "run", ())
    monkeypatch.setattr(merged_logs, "_most_open", lambda: 2)
    logs = MergedLogs(run, Console(None), limit, lambda rank, size: None)
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(6):
        for rank in range(8):
            logs.write(Header(rank, "o", turn, turn * 10), b"%d of %4d\n" % (turn, rank), 0)
        assert len(os.listdir("/proc/self/fd")) <= before + 2 * 2 * 2
    assert logs.close(0.0) == []
    text = run.log(7).read_text()
    assert text.startswith("0 of    7\n1 of    7\n") and text.endswith("5 of    7\n")
    assert (len(text) == 60) == (limit == 0) and ("left out here" in text) == (limit > 0)


def test_lines_are_shown_with_the_head_s_time(tmp_path: Path) -> None:
    run, out = RunDir.create(tmp_path / "run", ()), io.StringIO()
    console = Console(out)
    logs = MergedLogs(run, console, 0, lambda rank, size: None)
    logs.write(Header(3, "o", 10**9 + 5 * 10**8, 0), b"whole\nhalf", 10**9)
    logs.close(2.0)
    console.finish()
    assert [line.split("| ")[1] for line in out.getvalue().splitlines()] == ["whole", "half"]
    assert run.index(3).read_text().split()[0] == str(5 * 10**8)


@pytest.mark.parametrize("value", [None, [], [1, "o", 2], [1, "x", 2, 3], ["1", "o", 2, 3], {"rank": 1}])
def test_a_header_that_is_none(value: Any) -> None:
    with pytest.raises(ReadError):
        header(value)


def test_ranks_of_other_hosts_as_the_head_has_written_them(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", ())
    assert remote.read_ranks(run) == {}
    path = run.path / remote.RANKS_FILE
    path.write_text(json.dumps({"3": ["node2", 77, None, 5, "train"], "4": ["node2", 78, 1, None, ""]}))
    assert remote.read_ranks(run)[3] == ("node2", 77, None, 5, "train")
    for text in ('{"x": []}', '{"3": ["node2", "77", null, 5, ""]}', '{"3": 5}', "[", "5"):
        path.write_text(text)
        assert remote.known_ranks(run) == {}, text
        with pytest.raises(ReadError):
            remote.read_ranks(run)


@pytest.mark.parametrize("now", [False, True])
def test_stop_on_another_host_asks_the_head(tmp_path: Path, now: bool) -> None:
    run = _elsewhere(tmp_path)
    asked: list[str] = []

    def head() -> None:
        while not asked:
            asked.extend(filter(None, [remote.asked_to_stop(run.path)]))
        run.result.write_text("{}")

    thread = threading.Thread(target=head)
    thread.start()
    assert stop.stop(run, now, timeout=10).endswith("stopped by its head")
    thread.join()
    assert asked == ["now" if now else "stop"]


def test_a_head_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="its head on host elsewhere has not ended it"):
        stop.stop(_elsewhere(tmp_path), timeout=0.1)


def _elsewhere(folder: Path) -> RunDir:
    run = RunDir.create(folder / "run", ())
    run.record.write_text(json.dumps({"pid": 1, "start": 1, "host": "elsewhere"}))
    for name in ("hosts.json", "plan.json"):
        (run.path / name).write_text("{}")
    return run


def test_a_request_that_is_none_is_taken_away(tmp_path: Path) -> None:
    for name, take in ((remote.ASK, remote.asked), (remote.ASK_STOP, remote.asked_to_stop)):
        (tmp_path / name).write_text("../../etc/passwd")
        assert take(tmp_path) == "" and not (tmp_path / name).exists()
        assert take(tmp_path) == ""
