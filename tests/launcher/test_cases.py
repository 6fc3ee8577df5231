"""Test cases: the CSV file and the jobs made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.cases.csv_file import COLUMNS, Case, job, read_cases, select
from launcher.errors import ConfigError, UsageError

HEADER = ",".join(COLUMNS)
ROW = {
    "CASENUM": "1",
    "CASENAME": "1p smoke",
    "JOB_ID": "10086",
    "SERVER_ID": "127.0.0.1",
    "DEVICE_ID": "0",
    "RUN_ALGORITHM_CMD": "squad.run_squad --do_train=True --output_dir=result/${RANK_ID}/ckpt${DEVICE_ID}",
}


def line(**changes: str) -> str:
    row = dict(ROW, **changes)
    return ",".join(row.get(column, "") for column in COLUMNS)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "cases.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return path


def only(folder: Path, **changes: str) -> Case:
    return read_cases(write(folder, line(**changes)))[0]


def document(folder: Path, environ: Any = None, **changes: str) -> dict[str, Any]:
    return job(only(folder, **changes), folder / "runs", environ or {})


def test_skips_the_header_blank_lines_and_comments(tmp_path: Path) -> None:
    path = write(tmp_path, "", line(), "# 9,no case", "  ", line(CASENUM="2", DEVICE_ID="0 1 2"))
    cases = read_cases(path)
    assert [(case.number, case.line, case.devices) for case in cases] == [
        ("1", 3, ("0",)),
        ("2", 6, ("0", "1", "2")),
    ]


def test_chooses_one_case_or_all(tmp_path: Path) -> None:
    cases = read_cases(write(tmp_path, line(), line(CASENUM="2")))
    assert [case.number for case in select(cases, "all", "f")] == ["1", "2"]
    assert [case.number for case in select(cases, "2", "f")] == ["2"]
    with pytest.raises(UsageError, match="f has no case 7; it has: 1, 2"):
        select(cases, "7", "f")


@pytest.mark.parametrize(
    "text, message",
    [
        ("1,2,3", r"cases\.csv:2: 3 columns .expected 13"),
        (line() + ",x", r"cases\.csv:2: 14 columns .expected 13"),
        (line(DEVICE_ID=""), r"cases\.csv:2: DEVICE_ID: empty"),
        (line(RUN_ALGORITHM_CMD=""), r"cases\.csv:2: RUN_ALGORITHM_CMD: empty"),
        (line(SERVER_ID="10.0.0.9"), r"cases\.csv:2: SERVER_ID: 10\.0\.0\.9 is another host"),
        (line() + "\n" + line(), r"cases\.csv:3: CASENUM: duplicate number 1"),
    ],
)
def test_names_file_line_and_column_of_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_cases(write(tmp_path, text))


def test_a_file_without_header_or_without_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(line())
    with pytest.raises(ConfigError, match=r"x\.csv:1: the first line must name the columns"):
        read_cases(tmp_path / "x.csv")
    with pytest.raises(ConfigError, match=r"none\.csv: no such file"):
        read_cases(tmp_path / "none.csv")


def test_a_command_of_flags_becomes_program_and_args(tmp_path: Path) -> None:
    found = document(tmp_path, RUN_ALGORITHM_CMD="code/run_squad.py --do_train --seed=3")
    assert found["program"] == "code/run_squad.py"
    assert found["args"] == {"do_train": "True", "seed": "3"}
    assert found["job"] == "case_1_1p_smoke"


def test_the_seeds_output_dir_is_filled_in(tmp_path: Path) -> None:
    assert document(tmp_path, DEVICE_ID="4 5")["args"]["output_dir"] == "result/case_1_1p_smoke/ckpt4"


def test_a_case_can_name_what_an_earlier_one_of_the_same_run_has_left(tmp_path: Path) -> None:
    found = document(tmp_path, RUN_ALGORITHM_CMD="a.py --init_checkpoint=${CASES_DIR}/case_2_x/latest")
    assert found["args"]["init_checkpoint"] == f"{tmp_path}/case_2_x/latest"


@pytest.mark.parametrize(
    "command, words",
    [
        ("bash train.sh 1", ["bash", "train.sh", "1"]),
        ("train.sh --x=1", ["train.sh", "--x=1"]),
        ("train.py file --x=1", ["train.py", "file", "--x=1"]),
        ("sh -c 'echo \"a b\"'", ["sh", "-c", 'echo "a b"']),
    ],
)
def test_any_other_command_stays_a_list(tmp_path: Path, command: str, words: Any) -> None:
    path = tmp_path / "cases.csv"
    cells = [dict(ROW, RUN_ALGORITHM_CMD=command).get(column, "") for column in COLUMNS]
    cells = ['"{}"'.format(cell.replace('"', '""')) for cell in cells]
    path.write_text(HEADER + "\n" + ",".join(cells) + "\n")
    found = job(read_cases(path)[0], tmp_path, {})
    assert found["program"] == words and "args" not in found


def test_checkpoint_dir_is_appended_to_the_command(tmp_path: Path) -> None:
    found = document(tmp_path, {"CKPT": "/c"}, CHECKPOINT_DIR="--init_checkpoint=$CKPT/model")
    assert found["args"]["init_checkpoint"] == "/c/model"


def test_columns_and_the_environment_file_reach_the_environment(tmp_path: Path) -> None:
    (tmp_path / "npu.env").write_text("export A=1\nJOB_ID=7\nB=${HOME}/x\n")
    found = document(
        tmp_path,
        {"HOME": "/h"},
        ENV_SET="npu.env",
        FP_POINT="bert/embeddings/GatherV2",
        PROFILING_MODE="false",
        RUN_ALGORITHM_CMD="a.py --b=$B --a=${A}",
    )
    assert found["env"] == {
        "A": "1",
        "B": "/h/x",
        "JOB_ID": "10086",
        "FP_POINT": "bert/embeddings/GatherV2",
        "PROFILING_MODE": "false",
    }
    assert found["args"] == {"b": "/h/x", "a": "1"}


def test_the_environment_file_cannot_change_what_the_launcher_sets(tmp_path: Path) -> None:
    (tmp_path / "npu.env").write_text("export RANK_SIZE=8\n")
    with pytest.raises(ConfigError, match=r"npu\.env: RANK_SIZE: set by npu-launch"):
        document(tmp_path, ENV_SET="npu.env")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"RUN_ALGORITHM_CMD": "a.py --x=$NONE"}, r"cases\.csv:2: RUN_ALGORITHM_CMD: \$NONE is not set"),
        ({"RUN_ALGORITHM_CMD": "a.py --x=$(id)"}, r"RUN_ALGORITHM_CMD: .*runs a command"),
        ({"RUN_ALGORITHM_CMD": "a.py 'open"}, r"RUN_ALGORITHM_CMD: No closing quotation"),
        ({"ENV_SET": "none.env"}, r"none\.env: no such file"),
    ],
)
def test_a_case_that_cannot_be_made_a_job_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        document(tmp_path, **changes)
