"""Cases 76 to 78: odd environments, folders and arguments."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.faults.helpers import Job
from tests.launching import ROOT


def test_case_76_values_that_are_no_utf8_reach_the_ranks(job: Job) -> None:
    job.script("print(os.environb[b'ODD'], os.environ['WITH'])")
    assert job.run(2, env={"ODD": os.fsdecode(b"\xff\xfe"), "WITH": "a=b=c"}) == 0
    assert job.log(1) == b"b'\\xff\\xfe' a=b=c\n"


def test_case_76_a_variable_that_is_too_long_is_named_as_the_reason(job: Job) -> None:
    (job.folder / "job.yaml").write_text(f"env:\n  BIG: {'x' * 200000}\n")
    assert job.run(2, "job.yaml", command=["true"]) == 126
    assert "Argument list too long" in job.output and "Traceback" not in job.output


def test_case_77_a_deleted_working_directory_is_one_line(job: Job) -> None:
    gone = job.folder / "gone"
    code = "import os, sys; os.mkdir(%r); os.chdir(%r); os.rmdir(%r); os.execv(sys.executable, sys.argv[1:])"
    words = [sys.executable, "-m", "launcher", "--devices", "0", "--backend", "cpu", "--", "true"]
    done = subprocess.run(
        [sys.executable, "-c", code % ((str(gone),) * 3), *words],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    assert done.returncode != 0
    assert b"Traceback" not in done.stdout and len(done.stdout.splitlines()) == 1


def test_case_77_a_rank_folder_that_is_gone_names_the_path(job: Job) -> None:
    job.script("time.sleep(60)")
    job.drive("gone", 2)
    assert job.wait() == 127
    assert "gone" in job.report


def test_case_78_arguments_reach_the_program_as_they_are(job: Job) -> None:
    words = ["--devices", "7", "a b", "*.py", "--", "$HOME", "x=y", ""]
    job.script("print(sys.argv[1:])")
    program = [sys.executable, str(job.folder / "job.py"), *words]
    assert job.run(1, command=program) == 0
    assert job.log(0).decode().strip() == repr(words)
