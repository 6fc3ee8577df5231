"""The preflight of devices: absent, ill, held by processes or another launch, not to be opened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from launcher.checks import device_state, preflight
from launcher.checks.preflight import Subject
from launcher.config.job import JobConfig
from launcher.process import procfs
from launcher.run_dir import RunDir
from rank_table.sources.npu_smi import SmiProcess
from rank_table.sources.tools import Machine
from tests.launcher.fake_server import Server, errors, smi
from tests.launching import ROOT
from tests.rank_table.conftest import FakeHost


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(FakeHost(tmp_path), monkeypatch, tmp_path)


def test_case_72_an_absent_device_is_named_with_those_that_are_here(server: Server) -> None:
    found = errors(server.check(server.plan((0, 8, 9))))
    assert found == {"devices": "no /dev/davinci8-9; this host has 0-7; correct --devices"}


def test_case_72_an_unhealthy_device_is_refused_and_one_that_is_not_asked_for_is_not(server: Server) -> None:
    server.health(["OK", "Alarm", "Critical"] + ["OK"] * 5)
    found = errors(server.check())
    assert list(found) == ["health"] and "device 1 is Alarm" in found["health"]


def test_case_72_a_busy_device_names_the_holders_pid_user_command_and_age(server: Server) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "train.py"], stdin=subprocess.PIPE) as holder:
        server.health(["OK"] * 8, [(1, holder.pid), (5, 1)])
        found = errors(server.check())
        assert list(found) == ["occupied"]
        text = found["occupied"]
        assert f"device 1 is in use by pid {holder.pid}, user " in text
        assert "train.py" in text and re.search(r"running for \d+ (s|min)", text)
        holder.communicate(b"\n")


def test_case_72_a_process_that_has_the_device_open_is_found_without_npu_smi(server: Server) -> None:
    path = server.host.root / "dev" / "davinci0"
    server.host.tool("npu-smi", {"info": {"exit": 1}})
    code = "import sys; f = open(sys.argv[1]); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert f"pid {holder.pid}" in errors(server.check())["occupied"]
        holder.communicate(b"\n")


def test_case_72_a_holder_in_another_container_is_still_reported(server: Server) -> None:
    server.health(["OK"] * 8, [(0, 4194000)])
    text = errors(server.check())["occupied"]
    assert "device 0 is in use by python (pid 4194000, 56,485 MB), not visible here" in text


def test_a_holder_with_the_pid_of_another_process_here_is_not_that_process(server: Server) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        server.health(["OK"] * 8, [(0, stranger.pid)])  # npu-smi shows python
        text = errors(server.check())["occupied"]
        stranger.kill()
    assert f"python (pid {stranger.pid}, 56,485 MB), not visible here" in text and "sleep" not in text


def test_in_a_container_a_pid_of_the_host_is_not_looked_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_state, "on_host", lambda: False)
    monkeypatch.setattr(procfs, "name", lambda pid: "python")
    monkeypatch.setattr(procfs, "open_files", lambda pid: ["/dev/davinci0"] if pid == 77 else [])
    assert device_state.local_pid(SmiProcess(os.getpid(), "python")) == 0
    assert device_state.local_pid(SmiProcess(4190001, "python", -1, 77)) == 77
    assert device_state.local_pid(SmiProcess(4190001, "python", -1, 78)) == 0  # it has no device open
    assert device_state.local_pid(SmiProcess(4190001, "java", -1, 77)) == 0
    server.health(["OK"] * 8, [(0, os.getpid())])
    assert f"python (pid {os.getpid()}, 56,485 MB), not visible here" in errors(server.check())["occupied"]


@pytest.mark.parametrize(
    "own, shown, same",
    [
        ("sglang::schedul", "sglangschedul", True),
        ("VLLM::Worker_TP", "VLLMWorker_TP", True),
        ("python3.11", "python3.1", True),
        ("python", "", False),
        ("python", "pyt", False),
        ("", "python", False),
    ],
)
def test_names_are_compared_as_npu_smi_cuts_them(
    monkeypatch: pytest.MonkeyPatch, own: str, shown: str, same: bool
) -> None:
    monkeypatch.setattr(device_state, "on_host", lambda: True)
    monkeypatch.setattr(procfs, "name", lambda pid: own)
    assert bool(device_state.local_pid(SmiProcess(12, shown))) == same


def test_memory_that_is_taken_without_a_process_is_a_warning_with_figures(server: Server) -> None:
    table = smi(["OK"] * 8).replace("3318 / 65536", "60321/ 65536", 1)
    server.host.tool("npu-smi", {"info": table})
    (finding,) = server.check()
    assert (finding.name, finding.level) == ("occupied", "warning")
    assert "device 0: 60,321 of 65,536 MB of its memory (HBM) are taken" in finding.what


@pytest.mark.parametrize(
    "word, level",
    [("Warning", "warning"), ("NA", "warning"), ("Critical", "error"), ("UNKNOWN", "error")],
)
def test_a_merely_warned_device_is_not_refused(server: Server, word: str, level: str) -> None:
    server.health(["OK", word] + ["OK"] * 6)
    (finding,) = server.check()
    assert (finding.name, finding.level) == ("health", level)


def test_a_device_that_npu_smi_does_not_show_is_not_taken_for_free(server: Server) -> None:
    server.health(["OK"])
    (finding,) = server.check()
    assert finding.level == "warning"
    assert "health and holders of device 1 are not known" in finding.what


def test_processes_that_are_not_understood_are_a_warning(server: Server) -> None:
    titles = "| NPU     Chip              | Process id    | Process name             | Process memory(MB) |\n"
    server.host.tool("npu-smi", {"info": smi(["OK"] * 8) + titles + "| all | 1 | python | 2 |\n"})
    (finding,) = server.check()
    assert finding.level == "warning" and "not understood: all | 1 | python | 2" in finding.what


def test_a_table_counts_though_the_tool_fails_after_it(server: Server) -> None:
    server.host.tool("npu-smi", {"info": {"text": smi(["OK", "Alarm"] + ["OK"] * 6), "exit": 1}})
    assert list(errors(server.check())) == ["health"]


def test_cards_are_checked_by_device_id_and_not_by_slot(server: Server) -> None:
    titles = ("NPU ID", "Chip ID", "Chip Logic ID", "Chip Phy-ID", "Chip Name")
    rows = [titles, *((7 - n, 0, n, n, "910B3") for n in range(8))]
    mapping = "".join("\t" + "".join(f"{cell!s:<31}" for cell in row) + "\n" for row in rows)
    server.host.tool("npu-smi", {"info": smi(["Alarm"] + ["OK"] * 7, [(1, 4194000)]), "info -m": mapping})
    assert server.check() == []
    assert list(errors(server.check(server.plan((6, 7))))) == ["health", "occupied"]


def test_case_72_a_device_that_this_user_may_not_open_is_refused(server: Server) -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to other users
        os.chmod(name, 0o755)
        other = FakeHost(Path(name))
        other.nodes(0, 1)
        (other.root / "dev" / "davinci0").chmod(0o666)
        (other.root / "dev" / "davinci1").chmod(0)
        subject = Subject(server.plan(), JobConfig(), server.table, Machine({}, str(other.root)))
        pid = os.fork()
        if pid == 0:
            if os.getuid() == 0:  # root may open everything
                os.setresuid(65534, 65534, 65534)
            texts = [what for _, what, _ in preflight.devices(subject)]
            os._exit(0 if len(texts) == 1 and "davinci1 may not be opened" in texts[0] else 1)
        assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize(
    "answer,says",
    [
        ({"exit": 3, "text": "dcmi failed"}, "npu-smi info: exit code 3: dcmi failed"),
        ({"text": "\x00\x7fgarbage | 1 | 2 |"}, "npu-smi info: no chip in its output"),
        ({"text": smi(["OK"]), "sleep": 60}, "npu-smi info: no answer within"),
    ],
)
def test_case_72_an_npu_smi_that_fails_hangs_or_prints_garbage_is_a_warning_that_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch, answer: Any, says: str
) -> None:
    server.host.tool("npu-smi", {"info": answer})
    monkeypatch.setattr(preflight, "TOOL_TIMEOUT", 0.5 if "no answer" in says else 60.0)
    (finding,) = server.check()
    assert (finding.name, finding.level) == ("health", "warning") and says in finding.what


def test_case_72_a_missing_npu_smi_is_a_warning(server: Server) -> None:
    (server.host.bin / "npu-smi").unlink()
    (finding,) = server.check()
    assert finding.level == "warning" and "npu-smi: not found on PATH" in finding.what


def test_a_device_that_another_launch_holds_is_named_with_its_run(server: Server) -> None:
    run = RunDir.create(server.folder / "runs" / "other-1", [])
    code = (
        "import sys; from pathlib import Path; from launcher.runs.locks import hold\n"
        "from launcher.run_dir import RunDir\n"
        "with hold([1], RunDir(Path(sys.argv[1]))): print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        text = errors(server.check())["lock"]
        assert f"device 1 is held by run other-1 (pid {holder.pid}, user" in text
        two = {"skip": ("disk", "framework"), "rank_table_free": True}
        beside = [str(found) for found in server.check(server.plan((2, 3)), **two)]
        [line] = beside
        says = r"other-1 runs on other devices .* \(EJ0003\); set env: HCCL_IF_BASE_PORT=(6\d+)$"
        free = re.match(says, line)
        assert free and server.check(server.plan((2, 3), HCCL_IF_BASE_PORT=free.group(1)), **two) == []
        assert server.check(server.plan((2, 3))) == []  # a rank table alone needs no port of the host
        holder.communicate(b"\n")
    assert server.check() == []
