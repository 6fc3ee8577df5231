"""npu-launch as a user types it, on programs that are not ours."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import main
from launcher.plan.model import Plan
from tests.launching import ROOT, latest, launch

CPU = ("--backend", "cpu")


def test_any_command_runs_once_per_device_with_its_rank(tmp_path: Path) -> None:
    words = ("--", "sh", "-c", "echo rank $RANK_ID of $RANK_SIZE on $DEVICE_ID")
    done = launch(tmp_path, "--devices", "0,2,5", *CPU, *words)
    assert done.returncode == 0, done.stderr
    for rank, device in enumerate((0, 2, 5)):
        assert f"rank {rank} of 3 on {device}" in done.stdout
        log = (latest(tmp_path) / "logs" / (f"rank_{rank}.log")).read_text()
        assert log == f"rank {rank} of 3 on {device}\n"


@pytest.mark.parametrize("program", ["module", "script", "command"])
def test_a_program_of_the_yaml_is_a_module_a_script_or_a_command(tmp_path: Path, program: str) -> None:
    (tmp_path / "mine.py").write_text("import os, sys; print('hello', os.environ['RANK_ID'], sys.argv[1:])")
    value = {"module": "mine", "script": "mine.py", "command": f"[{sys.executable}, mine.py]"}[program]
    (tmp_path / "job.yaml").write_text(f"program: {value}\nargs: {{x: 1}}\ndevices: 0-1\n")
    done = launch(tmp_path, *CPU, "job.yaml", "y=a b")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello 1 ['--x=1', '--y=a b']" in done.stdout


def test_the_run_folder_holds_plan_table_job_events_and_result(tmp_path: Path) -> None:
    assert launch(tmp_path, "--devices", "0-1", *CPU, "--", "true").returncode == 0
    run = latest(tmp_path)
    assert json.loads((run / "result.json").read_text())["exit_code"] == 0
    assert Plan.from_json((run / "plan.json").read_text()).ranks[1].env["RANK_ID"] == "1"
    assert json.loads((run / "rank_table.json").read_text())["server_count"] == "1"
    assert "devices: 0-1" in (run / "train.yaml").read_text().replace("'", "")
    assert all({"time", "event"} <= set(json.loads(line)) for line in (run / "events.jsonl").open())
    assert run.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("code", [1, 29, 124, 255])
def test_the_exit_code_is_the_culprits_own(tmp_path: Path, code: int) -> None:
    text = f"if [ $RANK_ID = 1 ]; then echo before the end; exit {code}; fi; sleep 30"
    done = launch(tmp_path, "--devices", "0-2", *CPU, "--grace", "5", "--", "sh", "-c", text)
    assert done.returncode == code
    assert "rank 1" in done.stdout and "before the end" in done.stdout
    result = json.loads((latest(tmp_path) / "result.json").read_text())
    assert (result["exit_code"], result["culprit"]) == (code, 1)
    assert "rank 1" in (latest(tmp_path) / "report.txt").read_text()


def test_a_signal_counts_from_128(tmp_path: Path) -> None:
    text = "if [ $RANK_ID = 1 ]; then kill -KILL $$; fi; sleep 30"
    assert launch(tmp_path, "--devices", "0-1", *CPU, "--", "sh", "-c", text).returncode == 137


@pytest.mark.parametrize(("mode", "code"), [(0o644, 126), (None, 127)])
def test_a_program_that_cannot_run_starts_nothing(tmp_path: Path, mode: int | None, code: int) -> None:
    program = tmp_path / "program"
    if mode is not None:
        program.write_text("x")
        program.chmod(mode)
    done = launch(tmp_path, "--devices", "0", *CPU, "--", program)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1 and "program" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--devices"], "--devices"),
        (["--nonsense"], "--nonsense"),
        (["a.yaml", "b.yaml"], "second job file"),
        (["--devices", "0-1"], "program"),
        (["--backend", "tpu"], "tpu"),
        (["--json", "--", "true"], "--dry-run"),
        (["--devices", "0,,1", "--", "true"], "0,,1"),
        (["--devices", "-1", "--", "true"], "-1"),
        (["--devices", "0-99999999", "--", "true"], "more than"),
        (["--show-ranks", "x", "--", "true"], "--show-ranks: 'x' in 'x': invalid rank"),
        (["--grace", "soon", "--", "true"], "soon"),
        (["--devices", "0,1", "--stdin-rank", "2", "--", "true"], "stdin_rank: 2; the ranks are 0 to 1"),
        (["--stdin-rank", "0", "--detach", "--", "true"], "stdin_rank: not possible with --detach"),
        (["--stdin-rank", "-2", "--", "true"], "stdin_rank: -2: invalid rank"),
    ],
)
def test_case_71_a_bad_command_line_is_refused_in_one_line(tmp_path: Path, words: Any, named: str) -> None:
    done = launch(tmp_path, *words)
    assert done.returncode == 2
    assert named in done.stderr and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_dry_run_starts_and_writes_nothing(tmp_path: Path) -> None:
    touch = ("touch", str(tmp_path / "started"))
    done = launch(tmp_path, "--devices", "0-7", *CPU, "--dry-run", "--", *touch)
    assert done.returncode == 0 and "RANK_ID=0" in done.stdout and "server_list" in done.stdout
    value = json.loads(launch(tmp_path, "--devices", "0-7", *CPU, "--dry-run", "--json", "--", *touch).stdout)
    assert [rank["device_id"] for rank in value["ranks"]] == list(range(8))
    assert list(tmp_path.iterdir()) == []


def test_auto_says_what_it_chose_and_why(tmp_path: Path) -> None:
    done = launch(tmp_path, "--devices", "0", "--dry-run", "--", "true")
    notes = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
    assert any("backend cpu" in note and "no NPU" in note for note in notes)


def test_debug_runs_in_process_and_gives_traceback_and_code(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os, sys\nprint('rank', os.environ['RANK_ID'], 'launcher' in sys.modules)\n1 / 0\n"
    )
    done = launch(tmp_path, "--devices", "3", *CPU, "--debug", "job=x", env={"RANK_ID": "9"})
    assert done.returncode == 2 and "program" in done.stderr
    done = launch(tmp_path, "--devices", "3", *CPU, "--debug", "program=mine.py")
    assert done.returncode == 1
    assert "rank 0 True" in done.stdout and "ZeroDivisionError" in done.stderr


def test_debug_refuses_two_devices(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    done = launch(tmp_path, "--devices", "0-1", *CPU, "--debug", "program=mine.py")
    assert done.returncode == 2 and "--debug: 2 devices (expected 1)" in done.stderr


@pytest.mark.parametrize(("text", "code"), [("sys.exit(7)", 7), ("sys.exit()", 0), ("sys.exit('no')", 1)])
def test_debug_ends_with_the_programs_code(tmp_path: Path, text: str, code: int) -> None:
    (tmp_path / "mine.py").write_text("import sys\n" + text)
    assert launch(tmp_path, *CPU, "--debug", "program=mine.py").returncode == code


def test_debug_opens_the_debugger_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("secret = 6 * 7\nraise RuntimeError('here')\n")
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "launcher", "--backend", "cpu", "--debug", "program=mine.py"]
    environ = dict(os.environ, PYTHONPATH=str(ROOT))
    process = subprocess.Popen(words, cwd=str(tmp_path), env=environ, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    os.write(master, b"p secret\nq\n")
    seen = b""
    try:
        while True:
            seen += os.read(master, 4096)
    except OSError:  # the terminal has no writer any more
        pass
    assert process.wait(timeout=30) == 1
    assert b"RuntimeError: here" in seen and b"(Pdb)" in seen and b"42" in seen
    os.close(master)


def test_files_of_every_rank_are_gathered_by_pattern(tmp_path: Path) -> None:
    text = "echo $RANK_ID > $NPU_LAUNCH_RANK_DIR/w.bin"
    done = launch(tmp_path, "--devices", "0-1", *CPU, "gather=['*.bin']", "--", "sh", "-c", text)
    assert done.returncode == 0, done.stderr
    assert [
        (latest(tmp_path) / "gathered" / (f"rank_{rank}") / "w.bin").read_text() for rank in (0, 1)
    ] == ["0\n", "1\n"]


def test_something_of_the_users_named_latest_stays(tmp_path: Path) -> None:
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    assert launch(tmp_path, *CPU, "--", "true").returncode == 0
    assert not (tmp_path / "runs" / "latest").is_symlink()


def test_a_detached_run_goes_on_and_logs_follow_attaches(tmp_path: Path) -> None:
    text = "sleep 0.5; echo late from $RANK_ID"
    done = launch(tmp_path, "--devices", "0-1", *CPU, "--detach", "--", "sh", "-c", text)
    assert done.returncode == 0 and "logs --follow" in done.stdout
    assert "late" not in done.stdout
    followed = launch(tmp_path, "logs", "--follow")
    assert followed.returncode == 0
    assert "late from 0" in followed.stdout and "late from 1" in followed.stdout


def rank_table(folder: Path, text: str) -> Path:
    path = folder / "hccl.json"
    path.write_text(text)
    return path


TABLE = (
    '{"version": "1.0", "server_count": "1", "status": "completed", "server_list": '
    '[{"server_id": "10.0.0.1", '
    '"device": [{"device_id": "4", "rank_id": "0"}, {"device_id": "6", "rank_id": "1"}]}]}'
)


def test_a_finished_rank_table_is_used_as_it_is(tmp_path: Path) -> None:
    path = rank_table(tmp_path, TABLE)
    done = launch(tmp_path, *CPU, "--rank-table-file", path, "--", "sh", "-c", "echo $RANK_ID is $DEVICE_ID")
    assert done.returncode == 0, done.stderr
    assert "0 is 4" in done.stdout and "1 is 6" in done.stdout
    assert (latest(tmp_path) / "rank_table.json").read_text() == TABLE


def test_devices_that_the_given_table_does_not_have_are_refused(tmp_path: Path) -> None:
    path = rank_table(tmp_path, TABLE)
    done = launch(tmp_path, *CPU, "--rank-table-file", path, "--devices", "0-1", "--", "true")
    assert done.returncode == 2 and "devices 4,6 on this host" in done.stderr


def test_case_74_a_broken_rank_table_is_refused(tmp_path: Path) -> None:
    path = rank_table(tmp_path, TABLE.replace('"rank_id": "1"', '"rank_id": "0"'))
    done = launch(tmp_path, *CPU, "--rank-table-file", path, "--", "true")
    assert done.returncode in (2, 78) and "rank" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_inventory_file_of_two_hosts_starts_the_ranks_of_this_host_alone(tmp_path: Path) -> None:
    import socket

    (tmp_path / "hosts.yaml").write_text(
        "hosts:\n  - {server_id: other, devices: [0, 1]}\n"
        f"  - {{server_id: {socket.gethostname()}, devices: [0, 1]}}\n"
    )
    words = ("--devices", "0-1", "--inventory", "hosts.yaml", "--", "sh", "-c", "echo I am $RANK_ID")
    done = launch(tmp_path, *CPU, *words)
    assert done.returncode == 0, done.stderr
    assert "I am 2" in done.stdout and "I am 3" in done.stdout and "I am 0" not in done.stdout


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [("rubbish", 126, "Exec format error"), ("#!/nowhere/sh", 127, "the interpreter in its first line")],
)
def test_debug_refuses_a_command_that_is_no_program(tmp_path: Path, text: str, code: int, said: str) -> None:
    (tmp_path / "mine").write_text(text)
    (tmp_path / "mine").chmod(0o755)
    done = launch(tmp_path, "--devices", 0, *CPU, "--debug", "--", "./mine")
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr


def test_debug_runs_a_linked_script_as_a_rank_does(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "beside.py").write_text("value = 42\n")
    (tmp_path / "real" / "mine.py").write_text(
        "import atexit, beside, sys\nkept = beside.value\n"
        "atexit.register(lambda: print('kept', kept, sys.modules['__main__'].kept, __package__))\n"
    )
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "mine.py")
    done = launch(tmp_path, "--devices", 0, *CPU, "--debug", "--", "link.py")
    assert done.returncode == 0 and "kept 42 42 None" in done.stdout, done.stderr


@pytest.mark.parametrize("mode", ["--detach", "--debug"])
def test_a_launcher_without_stdin_and_stdout_keeps_its_files_apart(tmp_path: Path, mode: str) -> None:
    def close() -> None:
        os.close(0)
        os.close(1)

    words = ["--devices", "0", *CPU, mode, "--", "sh", "-c", "echo boom; exit 4"]
    done = subprocess.run(
        [sys.executable, "-m", "launcher", *words], cwd=str(tmp_path), preexec_fn=close,
        stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=str(ROOT)), timeout=60,
    )  # fmt: skip
    assert done.returncode == (0 if mode == "--detach" else 4), done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["logs"], ["stop", "x"], ["ps"], ["--", "true"]])
def test_a_current_directory_that_is_gone_is_one_line(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    said = "npu-launch: the current directory does not exist any more; cd to one that does\n"
    assert capsys.readouterr().err == said


def test_a_run_folder_that_cannot_be_made_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    limit = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh"]
    words = ["--devices", "0", *CPU, "--", "true"]
    # The limit is not for what coverage writes.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [*limit, sys.executable, "-B", "-m", "launcher", *words], cwd=str(tmp_path), capture_output=True,
        text=True, env=dict(environ, PYTHONPATH=str(ROOT)), timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("npu-launch: runs_dir: ")
    assert done.stderr.endswith(": File too large\n") and list((tmp_path / "runs").iterdir()) == []
