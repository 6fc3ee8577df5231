"""What a rank is started with: commands, Python programs, and what is no program for ranks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launcher.cli import main
from launcher.commands import counterparts
from launcher.config.job import JobConfig, Provenance
from launcher.errors import ConfigError, NotFoundError
from launcher.plan import nested, planner
from launcher.plan.command import WORKER, argv
from tests.coming_from import LAUNCHERS, missing
from tests.launching import latest, launch


def words(folder: Path, *command: str, **keys: Any) -> list[str]:
    """Return the command line of a rank, without the worker file's folder."""
    made = argv(JobConfig(**keys), command, {"PATH": f"{folder}:{os.environ['PATH']}"}, str(folder))
    return [word.replace(WORKER, "worker.py").replace(f"{folder}/", "") for word in made]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("python", "python3.9", "python2", "python3.6", "old/python", "job.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    (tmp_path / "train.py").write_text("")
    (tmp_path / "old" / "python").unlink()
    (tmp_path / "old" / "python").symlink_to("../python3.6")
    return tmp_path


@pytest.mark.parametrize(
    "command, made",
    [
        ("python train.py --lr x.py", "python -u worker.py train.py --lr x.py"),
        ("python3.9 -u -W ignore -Xdev -B train.py", "python3.9 -W ignore -Xdev -B -u worker.py train.py"),
        ("python -m package.train -m", "python -u worker.py -m package.train -m"),
        ("python -c pass train.py", ""), ("python -i train.py", ""), ("python -I train.py", ""),
        ("python -", ""), ("python", ""), ("python -m", ""), ("python old", ""),
        ("python2 train.py", ""), ("python3.6 train.py", ""), ("old/python train.py", ""),
        ("sh train.py", "/bin/sh train.py"), (f"python -u {WORKER} train.py", "python -u worker.py train.py"),
    ],
)  # fmt: skip
def test_an_interpreter_runs_its_program_by_the_worker_file_where_it_is_plain(
    folder: Path, command: str, made: str
) -> None:
    found = " ".join(words(folder, *command.split()))
    assert found == (made or command) or found.endswith(made or command)


def test_a_script_that_is_executable_is_a_command_but_for_torch_which_takes_the_interpreter_of_the_job(
    folder: Path,
) -> None:
    assert words(folder, "./job.py", framework="mindspore") == ["./job.py"]
    assert words(folder, "./job.py", framework="torch") == [sys.executable, "-u", "worker.py", "./job.py"]
    own = words(folder, "./job.py", framework="torch", python="./python3.9")
    assert own == ["./python3.9", "-u", "worker.py", "./job.py"]


@pytest.mark.parametrize("command", ["trian.py", "./trian.py", "python trian.py", "python -u ./trian.py"])
def test_a_script_that_is_not_there_is_told_with_its_folder_and_the_nearest_name(
    folder: Path, command: str
) -> None:
    with pytest.raises(NotFoundError) as caught:
        words(folder, *command.split())
    name = command.split()[-1]
    assert str(caught.value) == f"{name}: no such file in {folder}; did you mean train.py?"
    with pytest.raises(NotFoundError, match=r"nothing-alike\.py: no such file in .*; correct its path"):
        words(folder, "nothing-alike.py")
    (folder / "stderr.py").touch()  # alike in ".py" and some letters alone
    with pytest.raises(NotFoundError, match=r"nothere\.py: no such file in .*; correct its path"):
        words(folder, "nothere.py")
    (folder / "package.py").mkdir()
    with pytest.raises(NotFoundError, match=r"package\.py: a folder \(expected a script\)"):
        words(folder, "package.py")


def test_a_script_that_is_to_be_in_the_rank_s_folder_is_left_to_python(folder: Path) -> None:
    made = words(folder, "python", "made.py", cwd="rank")
    assert made == ["python", "-u", "worker.py", "made.py"]


@pytest.mark.parametrize(
    "command, better",
    [
        ("torchrun --nproc-per-node 8 t.py --lr 1", "t.py ..."), ("/opt/torchrun -m pkg.t", "-m pkg.t"),
        ("python -u -m torch.distributed.run --standalone t.py", "t.py"),
        ("python -W ignore -m torch.distributed.launch --module pkg.train 1", "-m pkg.train ..."),
        ("-m paddle.distributed.launch t.py", "t.py"), ("python /opt/bin/torchrun t.py", "t.py"),
        ("accelerate launch --num_processes 8 t.py", "t.py"), ("msrun --worker_num 8 t.py", "t.py"),
        ("numactl -m 0 torchrun t.py", "t.py"), ("env A=1 python -m torch.distributed.run t.py", "t.py"),
        ("mpirun -np 8 ./train", "PROGRAM"), ("deepspeed --include localhost:0,1 t.py", "t.py"),
        ("llamafactory-cli train x.yaml", "-m llamafactory.launcher ..."), ("npu-launch -- t.py", "t.py"),
    ],
)  # fmt: skip
def test_a_launcher_for_each_of_several_ranks_is_refused_with_the_line_that_is_meant(
    command: str, better: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        nested.refuse(JobConfig(), command.split(), Provenance(), range(8))
    assert str(caught.value).endswith(f"; give the program itself: npu-launch --devices 0-7 -- {better}")
    nested.refuse(JobConfig(), command.split(), Provenance(), [0])  # one for all devices of the host


@pytest.mark.parametrize(
    "command",
    [
        "t.py torchrun", "echo deepspeed", "python t.py -m torch.distributed.run", "accelerate env",
        "-m torch.x", "numactl -m 0 python t.py", "python -c torchrun", "llamafactory-cli export x.yaml",
        "env A=1 t.py", "env",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_launcher_is_not_refused(command: str) -> None:
    assert nested.find(command.split()) == -1


def test_a_job_with_a_launcher_is_refused_at_its_line_and_runs_with_one_rank(tmp_path: Path) -> None:
    tool = tmp_path / "torchrun"
    tool.write_text("#!/bin/sh\necho started\n")
    tool.chmod(0o755)
    (tmp_path / "job.yaml").write_text("backend: cpu\nprogram: [./torchrun, --nproc-per-node, '2', t.py]\n")
    refused = launch(tmp_path, "--devices", "0-1", "job.yaml")
    assert refused.returncode == 2 and not (tmp_path / "runs").exists()
    said = "job.yaml:2: program: torchrun starts processes of its own, and each of 2 ranks would"
    assert refused.stderr.startswith(f"npu-launch: {said}") and refused.stderr.count("\n") == 1
    assert launch(tmp_path, "--devices", "0", "job.yaml").returncode == 0
    assert "started" in (latest(tmp_path) / "logs" / "rank_0.log").read_text()


def test_an_exception_under_a_named_interpreter_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise ValueError('here')\n")
    done = launch(tmp_path, "--backend", "cpu", "--", sys.executable, "-B", "train.py")
    assert done.returncode == 1 and "failed first: ValueError: here" in done.stdout + done.stderr
    assert (latest(tmp_path) / "ranks" / "0" / "error.json").exists()


@pytest.mark.parametrize(
    "typed, said",
    [
        ("--nproc-per-node 8 t.py --lr 1", "a list of devices, as in npu-launch --devices 0-7 -- t.py ..."),
        ("--nproc_per_node=1 t.py", "--devices 0 -- t.py"), ("-np 4 ./t", "--devices 0-3 -- train.py"),
        ("-n4 t.py", "--devices 0-3 -- t.py"), ("--num_processes 2 -- t.py", "--devices 0-1 -- t.py"),
        ("--worker_num 8 --local_worker_num 8 t.py", "--worker_num: no such option: npu-launch takes a list"),
        ("--npus 2,3 t.py", "--devices 2,3 -- t.py"), ("--include local:0,1 t.py", "--devices 0-7 -- t.py"),
        ("--devices 0,1 -m pkg.train", "-m: no such option; a program stands behind `--`, as in npu-launch "
         "--devices 0,1 -- -m pkg.train"), ("--nnodes 2 t.py", "give --hosts"),
        ("--rdzv-backend c10d t.py", "ranks meet on rank 0's host"), ("--log_dir x t.py", "runs_dir=FOLDER"),
        ("--devices 0,1 t.py --lr 3", "--lr: no such option; a program stands behind `--`, with its own"),
        ("--devices 0-1 t.py", "t.py: a program (expected a job file in YAML); give it as `-- t.py`"),
    ],
)  # fmt: skip
def test_an_option_of_another_launcher_is_answered_with_the_line_that_is_meant(typed: str, said: str) -> None:
    done = CliRunner().invoke(main, typed.split())
    assert done.exit_code == 2 and said in done.output and done.output.count("\n") == 1


def test_an_option_of_nobody_is_answered_as_before() -> None:
    done = CliRunner().invoke(main, ["--devics", "0", "job.yaml"])
    assert done.exit_code == 2 and "--devices" in done.output and "see npu-launch --help" in done.output


def test_every_option_that_is_answered_has_its_row_in_coming_from() -> None:
    known = [*counterparts._NUMBERS, *counterparts._LISTS, *counterparts._OTHERS]
    named = [option for option in known if not option.endswith("-")]
    lacking = [set(missing(name, named)) for name in LAUNCHERS]
    assert set.intersection(*lacking) == set()


def test_the_shell_s_heartbeat_is_the_job_s_unless_the_job_says_one(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\n")

    def planned(told: str, *words: str) -> Any:
        env = {"NPU_LAUNCH_HEARTBEAT": told}
        return launch(tmp_path, "--backend", "cpu", "--dry-run", *words, "--", "train.py", env=env)

    assert "\n  NPU_LAUNCH_HEARTBEAT=" not in planned("torch", "heartbeat=").stdout
    given = planned("torch")
    assert "note: heartbeat torch: NPU_LAUNCH_HEARTBEAT of the shell says it\n" in given.stdout
    source = Provenance(written={"backend"})
    config, _ = planner.heartbeat_of_shell(JobConfig(), source, {"NPU_LAUNCH_HEARTBEAT": "torch"})
    assert config.heartbeat == "torch"
    own = JobConfig(env={"NPU_LAUNCH_HEARTBEAT": "paddle"})
    assert planner.heartbeat_of_shell(own, source, {"NPU_LAUNCH_HEARTBEAT": "torch"}) == (own, ())
    wrong = planned("pytorch")
    assert wrong.returncode == 2 and "environment: NPU_LAUNCH_HEARTBEAT: 'pytorch': invalid" in wrong.stderr


def test_a_heartbeat_of_the_shell_reaches_the_rank(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import os; print('told', os.environ['NPU_LAUNCH_HEARTBEAT'])\n")
    launch(tmp_path, "--backend", "cpu", "--", "train.py", env={"NPU_LAUNCH_HEARTBEAT": "mindspore"})
    assert "told mindspore" in (latest(tmp_path) / "logs" / "rank_0.log").read_text()


@pytest.mark.parametrize(
    "statement",
    [
        "raise ValueError('env:// rendezvous: environment variable RANK expected, but not set')",
        "import os; os.environ['RANK']",
    ],
)
def test_the_report_says_why_a_rank_has_no_variable_of_torchrun(tmp_path: Path, statement: str) -> None:
    (tmp_path / "run.sh").write_text(f'exec {sys.executable} -c "{statement}"\n')
    done = launch(tmp_path, "--backend", "cpu", "--devices", "0-1", "--", "sh", "run.sh")
    text = done.stdout + done.stderr
    assert "npu-launch: framework: the command does not show which; ranks get what TensorFlow's need" in text
    assert "\n  RANK: only ranks of PyTorch get it; say framework: torch in the job\n" in text


def test_a_launcher_is_refused_before_a_job_waits_in_a_queue(tmp_path: Path) -> None:
    words = ("submit", "--engine", "slurm", "--dry-run", "devices=0-7", "--", "torchrun", "t.py")
    done = launch(tmp_path, *words)
    assert done.returncode == 2 and "npu-launch --devices 0-7 -- t.py" in done.stderr
