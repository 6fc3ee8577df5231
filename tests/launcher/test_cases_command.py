"""`npu-launch cases`, whole: real launches of small commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.cases.csv_file import COLUMNS

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, *commands: str, devices: str = "0") -> Path:
    lines = [",".join(COLUMNS)]
    for number, command in enumerate(commands, 1):
        row = {"CASENUM": str(number), "CASENAME": f"n{number}", "ENV_SET": "my.env", "JOB_ID": "10086"}
        row.update(DEVICE_ID=devices, RUN_ALGORITHM_CMD='"{}"'.format(command.replace('"', '""')))
        lines.append(",".join(row.get(column, "") for column in COLUMNS))
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    (folder / "my.env").write_text("export MINE='a b'\n")
    return folder / "cases.csv"


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "launcher", "cases", "cases.csv", *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def run(folder: Path, *words: object) -> Any:
    process = start(folder, *words)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def summary(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("runs/cases-*/summary.json")
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return found


def test_every_case_is_a_run_with_its_own_folder_and_a_row(tmp_path: Path) -> None:
    write(tmp_path, "sh -c 'echo $MINE $JOB_ID $RANK_ID of $RANK_SIZE'", "true", devices="0 1")
    code, out, err = run(tmp_path, "all", "host")
    assert code == 0, err
    assert "2 of 2 cases passed" in out
    rows = summary(tmp_path)
    assert [(row["case"], row["devices"], row["verdict"]) for row in rows] == [
        ("1", "0,1", "passed"),
        ("2", "0,1", "passed"),
    ]
    logs = [Path(tmp_path, rows[0]["run_dir"], "logs", f"rank_{rank}.log") for rank in (0, 1)]
    assert [log.read_text() for log in logs] == ["a b 10086 0 of 2\n", "a b 10086 1 of 2\n"]


def test_a_failing_case_makes_the_exit_code_1_and_the_others_still_run(tmp_path: Path) -> None:
    write(tmp_path, "sh -c 'exit 3'", "true")
    code, out, _ = run(tmp_path, "all")
    assert code == 1
    assert [row["verdict"] for row in summary(tmp_path)] == ["failed (exit code 3)", "passed"]
    assert "1 of 2 cases passed" in out


def test_the_figures_of_a_program_reach_the_summary(tmp_path: Path) -> None:
    lines = [
        f'{{"step": {step}, "loss": {loss}.5, "examples_per_second": {speed}}}'
        for step, loss, speed in ((1, 9, 1), (2, 3, 8), (3, 2, 6))
    ]
    result = '{"kind": "metrics", "values": {"exact": 71.25, "f1": 75.5}}'
    (tmp_path / "program.py").write_text(
        "import os\nfolder = os.environ['NPU_LAUNCH_RANK_DIR']\n"
        "open(folder + '/metrics.jsonl', 'w').write({!r})\n"
        "open(folder + '/artifacts.jsonl', 'w').write({!r})\n".format("\n".join(lines) + "\n", result + "\n")
    )
    write(tmp_path, "program.py --flag=1")
    code, out, err = run(tmp_path, 1, "host", "--json")
    assert code == 0, err
    (row,) = summary(tmp_path)
    assert json.loads(out[out.index("[\n") :]) == [row]
    figures = [row[name] for name in ("throughput", "loss", "exact_match", "f1")]
    assert figures == [7.0, 2.5, 71.25, 75.5]


def test_a_case_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    write(tmp_path, "sleep 600")
    code, _, _ = run(tmp_path, 1, "--timeout", 3)
    assert code == 1
    assert summary(tmp_path)[0]["verdict"] == "timed out after 3 s"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_runner_stops_the_case(tmp_path: Path, number: int) -> None:
    write(tmp_path, "sh -c 'echo $$ > pid; exec sleep 600'")
    process = start(tmp_path, 1)
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    "words, message",
    [
        (["9"], "cases.csv has no case 9; it has: 1"),
        (["1", "docker"], "docker mode is not supported"),
        (["1", "hots"], "'hots': invalid word (expected `host` or key=value)"),
    ],
)
def test_an_invalid_command_line_is_refused_with_exit_code_2(
    tmp_path: Path, words: Any, message: str
) -> None:
    write(tmp_path, "true")
    code, _, err = run(tmp_path, *words)
    assert code == 2
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_nothing_outside_the_runs_folder_is_changed(tmp_path: Path) -> None:
    write(tmp_path, "true")
    before = {
        path: (path.stat().st_mode, path.stat().st_uid, path.read_bytes()) for path in tmp_path.iterdir()
    }
    assert run(tmp_path, "all")[0] == 0
    after = set(tmp_path.iterdir()) - {tmp_path / "runs"}
    assert after == set(before)
    assert all(
        (path.stat().st_mode, path.stat().st_uid, path.read_bytes()) == before[path] for path in before
    )
