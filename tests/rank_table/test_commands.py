"""npu-launch rank-table and inventory, from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.commands.rank_table import rank_table
from launcher.errors import UsageError
from rank_table.table import RankTable
from tests.rank_table.conftest import FakeHost
from tests.rank_table.documents import cloud, v1, v1_2
from tests.rank_table.test_host import a2, a3


class Shell:
    """A shell in a folder, with fake tools on PATH."""

    def __init__(self, folder: Path, host: FakeHost) -> None:
        self.folder, self.host = folder, host

    def __call__(self, *words: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        env: dict[str, str] = dict(os.environ, PATH=str(self.host.bin), **environ)
        command = [sys.executable, "-m", "launcher", *words]
        env["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        return subprocess.run(
            command, cwd=str(self.folder), env=env, input=stdin, stdout=-1, stderr=-1, text=True, check=False
        )

    def write(self, name: str, document: object) -> str:
        (self.folder / name).write_text(document if isinstance(document, str) else json.dumps(document))
        return name


@pytest.fixture
def shell(tmp_path: Path, host: FakeHost) -> Shell:
    return Shell(tmp_path, host)


def test_check_answers_0_for_good_1_for_refused_and_2_for_unreadable_files(shell: Shell) -> None:
    good, bad = shell.write("good.json", v1()), shell.write("bad.json", dict(v1(), server_count="3"))
    done = shell("rank-table", "check", good, "--chip", "A2")
    assert (done.returncode, done.stdout) == (0, "good.json: good: 1.0, 16 ranks on 2 servers\n")
    done = shell("rank-table", "check", good, bad)
    assert done.returncode == 1
    assert 'bad.json: error: server_count "3"' in done.stdout and "bad.json: refused: 1 error" in done.stdout
    done = shell("rank-table", "check", good, bad, "none.json")
    assert (done.returncode, done.stderr) == (2, "npu-launch: none.json: No such file or directory\n")


def test_check_prints_findings_as_json_and_reads_stdin(shell: Shell) -> None:
    done = shell("rank-table", "check", "--json", "-", stdin='{"version": "1.0", // x\n}')
    findings = json.loads(done.stdout)
    assert done.returncode == 1
    assert (findings[0]["rule"], findings[0]["line"], findings[0]["column"]) == ("json.comment", 1, 20)


def test_a_warning_alone_is_no_failure(shell: Shell) -> None:
    done = shell("rank-table", "check", shell.write("legacy.json", cloud()))
    assert done.returncode == 0 and "warning: the legacy template" in done.stdout


def test_make_without_npus_says_what_to_do(shell: Shell) -> None:
    done = shell("rank-table", "make")
    assert done.returncode == 78
    assert len(done.stderr.splitlines()) == 1 and "--hosts FILE, or --virtual" in done.stderr


def test_a_table_of_two_hosts_is_made_from_what_inventory_prints_on_each(
    shell: Shell, samples: Path, tmp_path: Path
) -> None:
    a3(shell.host, samples)
    for name in ("node10", "node9"):
        done = shell("inventory", "--json", "--server-id", name)
        assert done.returncode == 0, done.stderr
        text = done.stdout
        if name == "node9":  # another host of the same super pod
            text = text.replace("10.0.24", "10.1.24").replace(
                '"super_device_id": "16', '"super_device_id": "26'
            )
        shell.write(name + ".json", text)
    done = shell("rank-table", "make", "--hosts", "node10.json", "--hosts", "node9.json", "-o", "t.json")
    assert done.returncode == 0, done.stderr
    table = RankTable.load(str(tmp_path / "t.json"))
    assert (table.version, table.servers, table.world_size) == ("1.2", ("node9", "node10"), 32)
    assert oct((tmp_path / "t.json").stat().st_mode)[-3:] == "644"
    again = shell("rank-table", "make", "--hosts", "node9.json", "--hosts", "node10.json")
    assert again.stdout == (tmp_path / "t.json").read_text()
    asked = shell(
        "rank-table", "make", "--hosts", "node9.json", "--hosts", "node10.json", "--order", "node10,node9"
    )
    assert RankTable.loads(asked.stdout).servers == ("node10", "node9")
    assert shell("rank-table", "check", "--chip", "A3", "t.json").returncode == 0


def test_a_table_that_hccl_would_refuse_is_not_written(shell: Shell, tmp_path: Path) -> None:
    shell.write("i.yaml", "hosts:\n- {server_id: a, devices: [0]}\n- {server_id: b, devices: [0]}\n")
    done = shell("rank-table", "make", "--hosts", "i.yaml", "-o", "t.json")
    assert done.returncode == 1 and not (tmp_path / "t.json").exists()
    assert "device_ip: missing, but needed with 2 servers" in done.stderr


def test_a_file_name_that_hccl_would_not_read_is_refused(shell: Shell) -> None:
    done = shell("rank-table", "make", "--virtual", "--devices", "0-1", "-o", "table.txt")
    assert done.returncode == 2 and "first .json" in done.stderr


def test_show_merge_and_convert(shell: Shell) -> None:
    one, two = v1(1, 2), v1(1, 2)
    two["server_list"][0]["server_id"] = "10.0.0.10"
    for number, device in enumerate(two["server_list"][0]["device"]):
        device["device_ip"] = f"192.9.9.{number + 1}"
    files = [shell.write("b.json", two), shell.write("a.json", one)]
    merged = shell("rank-table", "merge", *files, "-o", "all.json")
    assert merged.returncode == 0, merged.stderr
    shown = shell("rank-table", "show", "all.json").stdout.splitlines()
    assert shown[0] == "version 1.0, status completed: 4 ranks on 2 servers"
    assert shown[2].split()[:2] == ["10.0.0.1", "0"] and shown[4].split()[:2] == ["10.0.0.10", "2"]
    done = shell("rank-table", "convert", "--to", "1.0", shell.write("pods.json", v1_2(1, 1)))
    assert json.loads(done.stdout)["version"] == "1.0" and "no super pods" in done.stderr
    assert shell("rank-table", "merge", "a.json", "a.json").returncode == 2
    assert shell("rank-table", "show", "none.json").returncode == 2
    assert shell("rank-table", "convert", "--to", "2.0", "a.json").returncode == 2


def test_inventory_shows_every_numbering_space_and_explain_the_sources(shell: Shell, samples: Path) -> None:
    a3(shell.host, samples)
    done = shell("inventory", "--explain", "--server-id", "node1", ASCEND_RT_VISIBLE_DEVICES="10,12")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["node1:", "2", "devices,", "chip", "A3,", "super", "pod", "3"]
    assert lines[1][:6] == ["RANK_ID", "DEVICE_ID", "ASCEND_DEVICE_ID", "VISIBLE", "NPU", "CHIP"]
    assert lines[2][:8] == ["0", "10", "0", "0", "5", "0", "10.0.245.16", "169082890"]
    assert lines[3][:8] == ["1", "12", "1", "1", "6", "0", "10.0.245.17", "169345036"]
    assert "device 12 device_ip: hccn_tool -i 12 -ip -g" in done.stdout
    assert "device 12 logical_id: ASCEND_RT_VISIBLE_DEVICES" in done.stdout


def test_check_compares_with_this_host_when_asked_to(shell: Shell, samples: Path) -> None:
    a2(shell.host, samples)
    done = shell("rank-table", "check", "--this-host", shell.write("t.json", v1(1, 2, 7)))
    assert done.returncode == 1 and "host.device" in done.stdout


def test_check_compares_a_process_in_a_container_that_renumbers_with_its_rank(
    shell: Shell, samples: Path
) -> None:
    a3(shell.host, samples)
    file = shell.write("t.json", v1(1, 2, 10))  # ranks 0 and 1 on the physical devices 10 and 11
    visible = {"ASCEND_RT_VISIBLE_DEVICES": "10,11", "RANK_ID": "1"}
    right = shell("rank-table", "check", "--process", file, ASCEND_DEVICE_ID="1", **visible)
    assert right.returncode == 0, right.stdout
    wrong = shell("rank-table", "check", "--process", file, ASCEND_DEVICE_ID="0", **visible)
    assert wrong.returncode == 1 and "gives rank 1 device 11, the process has device 10" in wrong.stdout
    missing = shell("rank-table", "check", "--process", file, DEVICE_ID="11", RANK_ID="2")
    assert missing.returncode == 1 and "process.rank_size" in missing.stdout


def test_commands_without_arguments_explain_themselves(shell: Shell) -> None:
    for words in (["rank-table", "--help"], ["rank-table", "make", "--help"], ["inventory", "--help"]):
        done = shell(*words)
        assert done.returncode == 0 and "Usage" in done.stdout
    missing: str | None = shell("rank-table", "check").stderr
    assert missing and "FILE" in missing


def test_a_table_of_another_command_is_read_once_and_by_no_name(shell: Shell, tmp_path: Path) -> None:
    shell.write("text", v1())
    program = f"{sys.executable} -m launcher rank-table"
    line = f"{program} check <(cat text) && {program} show <(cat text) && {program} merge <(cat text)"
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[2]))
    command = ["bash", "-c", line]
    done = subprocess.run(command, cwd=str(tmp_path), env=env, stdout=-1, stderr=-1, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "good: 1.0, 16 ranks on 2 servers" in done.stdout
    assert "version 1.0, status completed" in done.stdout


@pytest.mark.parametrize("words", [("check",), ("show",), ("convert", "--to", "1.0")])
def test_what_is_no_table_is_one_line_and_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("rank_table.files.PATIENCE", 0.05)
    os.mkfifo(str(tmp_path / "fifo.json"))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00" * 100)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("fifo.json", "binary.json", "deep.json", "."):
        done = CliRunner().invoke(rank_table, [*words, str(tmp_path / name)])
        assert done.exit_code in (1, 2) and isinstance(done.exception, (SystemExit, UsageError)), name


def test_stdin_that_is_no_text_is_one_line(shell: Shell) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "rank-table", "show", "-"],
        env=dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[2])),
        input=b"\xff\xfe",
        stdout=-1,
        stderr=-1,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, b"npu-launch: stdin: byte 0 is not UTF-8\n")
