"""Batch scripts for Slurm: what is in them, and that bash and the ranks get every value as it was typed."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import NotFoundError, PreflightError, UsageError
from launcher.submit import slurm
from launcher.submit.job import QueuedJob, read_job
from launcher.submit.slurm import Options, render, settled

ODD = ("a b", "it's", '"q" $HOME `id` \\ $(id)', "é%j*", "#x;y&z")


@pytest.fixture()
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QueuedJob:
    """Give a job that lies in the current directory."""
    monkeypatch.chdir(tmp_path)
    Path("train.yaml").write_text("job: squad\nprogram: p.py\nruns_dir: runs/of me\ngrace: 20\n")
    Path("p.py").touch()
    return read_job("train.yaml", [], [])


def script(job: QueuedJob, **options: object) -> str:
    return render("slurm", job, settled("slurm", job, Options(**options)))  # type: ignore[arg-type]


def directives(text: str) -> list[str]:
    return re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)


def test_the_script_asks_for_nodes_time_and_a_signal_before_its_end(job: QueuedJob) -> None:
    text = script(job, nodes=4, time="4:00:00", partition="npu", gres="npu:8", cpus="96", exclusive=True)
    found = directives(text)
    assert {"--nodes=4", '--time="4:00:00"', "--partition=npu", '--gres="npu:8"'} <= set(found)
    assert {"--cpus-per-task=96", "--exclusive", "--ntasks-per-node=1", "--export=ALL"} <= set(found)
    assert {"--job-name=squad", "--requeue", "--open-mode=append", "--signal=B:USR1@170"} <= set(found)
    assert "sleep 90; kill -TERM" in text  # what is left then is for grace, gathering and the report


def test_every_value_is_quoted_for_bash_and_for_sbatch(
    job: QueuedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / ODD[2].replace("/", "") / "100%"
    odd.mkdir(parents=True)
    monkeypatch.chdir(odd)
    said = odd / "said"
    fake = tmp_path / "npu-launch"
    fake.write_text('#!/bin/sh\npwd -P >said\nfor word; do printf "%s\\n" "$word" >>said; done\n')
    fake.chmod(0o755)
    monkeypatch.setattr(slurm, "PROGRAM", (str(fake),))
    overrides = tuple(f"args.{number}={word}" for number, word in enumerate(ODD))
    typed = replace(job, overrides=overrides, command=("echo", *ODD))
    text = script(typed, sbatch=('--comment=say "hi" \\',), name="my job")
    found = directives(text)
    assert '--comment="say \\"hi\\" \\\\"' in found and '--job-name="my job"' in found
    assert any(line.startswith("--output=") and "100%%" in line for line in found)
    (odd / "script").write_text(text)
    done = subprocess.run(["bash", "script"], env=dict(os.environ, SLURM_JOB_ID="1"), capture_output=True)
    assert done.returncode == 0, done.stderr
    words = said.read_text().split("\n")[:-1]
    assert words[0] == str(odd) and words[1] == "run" and tuple(words[3:8]) == overrides
    assert words[8].startswith("run_id=squad-") and words[9:] == ["--", "echo", *ODD]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"nodes": 0}, "--nodes: 0"),
        ({"time": "2"}, "--time: 2 is 120 s, and ranks save 170 s before"),
        ({"time": "soon"}, "--time: 'soon'"),
        ({"save_before": -1}, "--save-before: -1"),
        ({"requeues": -1}, "--requeues: -1"),
        ({"sbatch": ("-x",)}, "--sbatch: '-x'"),
        ({"partition": "a\n#SBATCH --uid=0"}, "--partition: .* one line"),
    ],
)
def test_options_that_do_not_fit_are_named(job: QueuedJob, options: dict[str, object], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        script(job, **options)


@pytest.mark.parametrize(
    ("overrides", "command", "problem"),
    [
        (["program=gone.py"], [], "program: gone.py: no such file"),
        (["python=/no/python"], [], "python: /no/python: not found"),
        (["inventory=gone.yaml"], [], "inventory: gone.yaml: no such file"),
        (["stdin_rank=0"], [], "stdin_rank: not possible"),
        (["program="], [], "program: missing"),
        ([], ["no-such-program"], "no-such-program: not found"),
    ],
)
def test_what_would_fail_hours_later_is_refused_now(
    job: QueuedJob, overrides: list[str], command: list[str], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        script(read_job("train.yaml", overrides, command))


@pytest.fixture()
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a script in the place of sbatch and squeue; return that of sbatch."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in (("sbatch", "env >sbatch.env; echo '17;cluster'"), ("squeue", "echo 'PENDING|None'")):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "sbatch"


def test_a_run_folder_holds_what_was_submitted(
    job: QueuedJob, sbatch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.setenv("SLURM_STEP_ID", "3")
    monkeypatch.setenv("SLURM_CONF", "/etc/mine")
    options = settled("slurm", job, Options())
    lines = slurm.submit("slurm", job, options, "#!/bin/sh\n")
    assert "job 17 of Slurm" in lines[0]
    run = Path("runs", "of me", "latest")
    assert sorted(path.name for path in run.iterdir()) == ["job.sbatch", "submit.json", "submitted.yaml"]
    assert (run / "submitted.yaml").read_text() == job.text
    environ = Path("sbatch.env").read_text()
    assert "SLURM_CONF=/etc/mine" in environ
    assert "SBATCH_PARTITION" not in environ and "STEP_ID" not in environ
    with pytest.raises(UsageError, match="in the queue as job 17"):
        slurm.submit("slurm", job, options, "#!/bin/sh\n")


def test_without_sbatch_or_against_its_will_nothing_is_made(
    job: QueuedJob, sbatch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = settled("slurm", job, Options())
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: no' >&2; exit 1\n")
    with pytest.raises(PreflightError, match="sbatch: error: no"):
        slurm.submit("slurm", job, options, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFoundError, match="sbatch: not found"):
        slurm.submit("slurm", job, options, "")
    assert not list(Path("runs", "of me").iterdir())
