"""Waiting for a rank table that the platform is still writing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Callable

import pytest

from rank_table.errors import RankTableError
from rank_table.wait import StillWaiting, wait_for
from tests.rank_table.documents import v1


class Clock:
    """A clock that advances only in sleep(), and does one thing at each."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.now = 0.0
        self.steps = list(steps)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.steps:
            self.steps.pop(0)()


def test_a_completed_table_is_used_at_once_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "hccl.json"
    text = json.dumps(v1(1, 2))
    path.write_text(text)
    told: list[str] = []
    table, given = wait_for(str(path), 5, told.append, sleep=lambda seconds: pytest.fail("waits"))
    assert (given, table.world_size, told) == (text, 2, [])


def test_a_table_is_waited_for_while_it_is_missing_empty_half_written_or_initializing(tmp_path: Path) -> None:
    path = tmp_path / "hccl.json"
    text = json.dumps(v1(1, 2))
    clock = Clock(
        lambda: path.write_text(""),
        lambda: path.write_text('{"status": "init'),
        lambda: path.write_text('{"status":"initializing"}'),
        lambda: path.write_text(text),
    )
    told: list[str] = []
    table, _ = wait_for(str(path), 60, told.append, clock=clock, sleep=clock.sleep)
    assert (table.world_size, clock.now, len(told)) == (2, 4.0, 1)
    assert "waiting up to 60 s" in told[0]


def test_the_wait_ends_at_its_limit_and_says_what_the_file_contains(tmp_path: Path) -> None:
    path = tmp_path / "hccl.json"
    path.write_text('{"status":"initializing"}')
    clock = Clock()
    with pytest.raises(StillWaiting, match="status initializing after 3 s"):
        wait_for(str(path), 3, clock=clock, sleep=clock.sleep)
    assert clock.now == 3.0


def test_a_folder_stands_for_the_table_in_it(tmp_path: Path) -> None:
    (tmp_path / "jobstart_hccl.json").write_text(json.dumps(v1(1, 1)))
    assert wait_for(str(tmp_path), 0)[0].world_size == 1


def test_a_completed_file_that_is_no_table_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "hccl.json"
    path.write_text('{"status":"completed","version":"1.0"}')
    with pytest.raises(RankTableError, match="server_list: missing"):
        wait_for(str(path), 60, sleep=lambda seconds: pytest.fail("waits"))


@pytest.mark.parametrize(
    "content",
    [b'{"a": x, "b": 12345}', b"\xff" * 9, b"[" * 300_000, b'{"status":"completed"}' + b" " * (40 << 20)],
)
def test_a_text_that_no_more_text_makes_a_table_is_not_waited_for(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hccl.json"
    path.write_bytes(content)
    with pytest.raises(RankTableError):
        wait_for(str(path), 60, sleep=lambda seconds: pytest.fail("waits"))


def test_a_fifo_and_a_device_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rank_table.files.PATIENCE", 0.05)
    os.mkfifo(str(tmp_path / "hccl.json"))
    for path, said in ((tmp_path / "hccl.json", "nothing was written"), (Path(os.devnull), "a device")):
        with pytest.raises(RankTableError, match=said):
            wait_for(str(path), 60, sleep=lambda seconds: pytest.fail("waits"))


def test_a_status_that_is_no_text_is_not_completed(tmp_path: Path) -> None:
    path = tmp_path / "hccl.json"
    path.write_text('{"status": ["completed"]}')
    with pytest.raises(StillWaiting, match="status"):
        wait_for(str(path), 0)
