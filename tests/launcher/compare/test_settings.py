"""What was asked of two runs, and what of it differs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.compare.settings import Difference, differences, flags, of_run
from launcher.plan.model import Plan, RankSpec
from launcher.run_dir import RunDir


def rank(number: int, argv: tuple[str, ...], env: dict[str, str]) -> RankSpec:
    return RankSpec(number, "10.0.0.1", number, number, number, argv, env, "/tmp")


def make_run(folder: Path, argv: tuple[str, ...] = (), env: Any = (), result: Any = None) -> RunDir:
    ranks = tuple(rank(number, ("python", "-m", "x", *argv), dict(env)) for number in range(2))
    plan = Plan("job", "id", str(folder), "10.0.0.1", "cpu", "{}", ranks)
    run = RunDir.create(folder, range(2))
    run.plan.write_text(plan.to_json(masked=True))
    if result is not None:
        run.result.write_text(json.dumps(result))
    return run


def test_a_run_has_the_flags_and_telling_variables_of_its_plan(tmp_path: Path) -> None:
    own = {"HOME": "/root", "NPU_LAUNCH_RUN_DIR": "/x", "ASCEND_DEVICE_ID": "0"}
    env = {"HCCL_CONNECT_TIMEOUT": "120", "TF_DETERMINISTIC_OPS": "1", **own}
    found, versions = of_run(make_run(tmp_path / "run", ("--learning_rate=5e-5", "--fp16"), env))
    assert found == {
        "backend": "cpu", "learning_rate": "5e-5", "fp16": "True",
        "HCCL_CONNECT_TIMEOUT": "120", "TF_DETERMINISTIC_OPS": "1",
    }  # fmt: skip
    assert versions == {}


def test_secrets_are_masked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ("--api_key=abcdefgh", "--lr=1"))
    plan = Plan.from_json(run.plan.read_text())
    bare = replace(plan, ranks=tuple(rank(n, ("x", "--api_key=abcdefgh"), {}) for n in range(2)))
    run.plan.write_text(bare.to_json())  # as another release may have written it
    assert of_run(run)[0]["api_key"] == "***"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}'])
def test_a_damaged_plan_has_no_settings(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "run")
    run.plan.write_text(text)
    assert of_run(run) == ({}, {})


def test_versions_are_those_of_the_result(tmp_path: Path) -> None:
    cann = {"version": "8.0", "parts": ["a", "b"]}
    file = {"option": "train_file", "path": "/data/train.json", "bytes": 30, "changed": "2026-01-01"}
    result = {"provenance": {"python": "3.11.4", "cann": cann, "driver": None, "files": [file]}}
    versions = of_run(make_run(tmp_path / "run", result=result))[1]
    assert versions == {
        "python": "3.11.4", "cann.version": "8.0", "cann.parts": "a, b", "files.train_file.bytes": "30",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["--a=b=c"], {"a": "b=c"}),
        (["--a", "1", "--b", "--c", "x"], {"a": "1", "b": "True", "c": "x"}),
        (["--a=1", "--a=2"], {"a": "2"}),
        (["-m", "x", "word", "--", "--1"], {}),
    ],
)  # fmt: skip
def test_flags_are_read_as_programs_read_them(argv: list[str], found: dict[str, str]) -> None:
    assert flags(argv) == found


def test_what_both_name_comes_first_and_what_is_equal_not_at_all() -> None:
    a, b = {"zeta": "1", "only_a": "x", "same": "0"}, {"zeta": "2", "same": "0", "b": "y"}
    assert differences("setting", a, b) == [
        Difference("setting", "zeta", "1", "2"),
        Difference("setting", "b", None, "y"),
        Difference("setting", "only_a", "x", None),
    ]
    assert differences("setting", {}, b) == []  # a log that names none differs in none
