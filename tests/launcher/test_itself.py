"""npu-launch starts itself: nothing of the folder that it is in gets in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import __version__
from launcher.process import launches


def test_a_module_of_the_users_folder_is_no_part_of_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("launcher", "rank_table", "tokenize", "text"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    run = launches.start(["--version"], tmp_path / "log")
    assert run.wait() == 0 and __version__ in (tmp_path / "log").read_text()
