"""A key of the command line that is nearly one of the job, and so becomes a flag of the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launching import launch

NOTE = "command line: {0}: no key of the job, so passed to the program as --{0}; did you mean {1}?"


@pytest.mark.parametrize(
    "key, meant",
    [("run_rot", "run_as_root"), ("rundir", "runs_dir"), ("bnd", "bind"), ("rank_table", "rank_table_file")],
)
def test_it_is_passed_on_with_a_note(tmp_path: Path, key: str, meant: str) -> None:
    done = launch(tmp_path, "--devices", "0", f"{key}=1", "lr=3", "--", "echo", "ran")
    assert done.returncode == 0 and f"ran --{key}=1 --lr=3" in done.stdout
    assert done.stderr.splitlines() == ["npu-launch: note: " + NOTE.format(key, meant)]


def test_flags_that_many_programs_have_are_no_mistakes(tmp_path: Path) -> None:
    words = ("device=cpu", "device_id=0", "port=29500", "host=::1", "clip=1.0", "ddp_backend=gloo")
    done = launch(tmp_path, "--devices", "0", *words, "--", "echo", "ran")
    assert (done.returncode, done.stderr) == (0, "")


def test_below_args_of_the_file_it_is_meant(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("program: [echo, ran]\nargs:\n  rundir: x\n")
    done = launch(tmp_path, "--dry-run", "job.yaml", "rundir=y")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_checks_its_flags_knows_its_own(tmp_path: Path) -> None:
    """`clip` is one of run_squad's, nearly `chip`; `bnd` is none."""
    words = ("--dry-run", "program=squad.run_squad", "do_train=True")
    done = launch(tmp_path, *words, "clip=none", "bnd=1")
    assert done.returncode == 2 and "npu-launch: " + NOTE.format("bnd", "bind") in done.stderr.splitlines()
    assert "clip" not in done.stderr
