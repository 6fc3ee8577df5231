"""npu-launch top: what a look tells of runs in any state, the keys, the terminal as it was afterwards."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.heartbeat import Counters
from launcher.run_dir import RunDir
from launcher.view import screen, snapshot, table
from launcher.view.follow import POINTS, Curve, Growing
from launcher.view.looks import RunLooks
from launcher.view.npu import Npus
from launcher.view.ranks import Pace, with_npu
from launcher.view.snapshot import RankView, RunView
from rank_table.sources.npu_smi import SmiChip
from rank_table.sources.tools import Machine
from tests.launcher.runs_made import START, finished, lines
from tests.launching import ROOT, launch

SMI = """\
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 101.8       43                15   / 20            |
| 0                         | 0000:C1:00.0  | 97          0    / 0          3318 / 65536         |
+===========================+===============+====================================================+
| 1     910B3               | OK            | -           39                0    / 0             |
| 0                         | 0000:C2:00.0  | NA          0    / 0          3314 / 65536         |
"""


def counters(steps: int, own: float, wait: float | None = 0.0, when: float = START) -> Counters:
    return Counters(when, steps, 8 * steps, 0, 0.0, own, wait, 0.0)


def test_a_finished_run_is_told_with_all_of_its_parts(tmp_path: Path) -> None:
    view = RunLooks(finished(tmp_path)).look()
    assert (view.state, view.exit_code, view.elapsed, view.step) == ("finished", 0, 60.0, 100)
    assert view.losses[0] == 1.6 and view.loss == 0.08 and view.best_examples_per_second == 23.0
    assert view.straggler == "rank 1 costs the run 11 %: own work, since step 60"
    assert not view.missing and view.over
    (first, _) = view.ranks
    assert (first.state, first.own, first.wait) == ("finished", pytest.approx(30 / 37), pytest.approx(6 / 37))


def test_a_failed_run_names_the_first_failure_without_secrets_or_what_terminals_obey(tmp_path: Path) -> None:
    view = RunLooks(finished(tmp_path, code=1)).look()
    assert view.failure is not None and view.failure.startswith("rank 0 failed first: ValueError")
    assert "\x1b" not in view.failure and "hunter2" not in view.failure


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("ranks/*/heartbeat.json", "rank [0-1] wrote no heartbeat.json"),
        ("ranks/*/metrics.jsonl", "no metrics.jsonl: loss not known"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, gone: str, told: str) -> None:
    run = finished(tmp_path)
    for path in run.path.glob(gone):
        path.unlink()
    assert told in RunLooks(run).look().missing


LOST = "no result.json: its launcher ended without a word; "
LOST += "npu-launch stop made ends what is left, npu-launch report made shows the rest"
CUT = "line 1: Unterminated string starting at (expected a JSON document)"
NO_BEAT = "step and counters are not known until it is written again"
NO_PLAN = "plan.json: no such file; hosts and devices are not known"
NO_EVENTS = "no events.jsonl: verdicts, alerts, processes not known; see logs/launcher.log"
CUT_EVENTS = "events.jsonl: 1 line(s) cannot be read, the last is cut off; what the launcher said is in "
CUT_EVENTS += "logs/launcher.log"
CUT_ROWS = "metrics.jsonl of rank 0: 1 line(s) cannot be read; the curves lack what was in it"


def halve(*paths: Path) -> None:
    for path in paths:
        data = path.read_bytes()
        path.write_bytes(data[: 20 if path.name == "heartbeat.json" else len(data) - 20])


@pytest.mark.parametrize(
    ("damaged", "gone", "told"),
    [
        (["events.jsonl"], [], [CUT_EVENTS]),
        ([], ["events.jsonl"], [NO_EVENTS]),
        (["ranks/0/heartbeat.json", "ranks/1/heartbeat.json"], ["result.json"],
         [f"heartbeat.json of rank [0-1]: {CUT}; {NO_BEAT}", LOST]),
        ([], ["plan.json"], [NO_PLAN]),
        ([], ["plan.json", "result.json"], [NO_PLAN, LOST]),
        ([], ["result.json"], [LOST]),
        (["ranks/0/metrics.jsonl"], [], [CUT_ROWS]),
    ],
)  # fmt: skip
def test_each_fault_is_one_line_said_once(
    tmp_path: Path, damaged: list[str], gone: list[str], told: list[str]
) -> None:
    run = finished(tmp_path)
    halve(*(run.path / name for name in damaged))
    for name in gone:
        (run.path / name).unlink()
    view = RunLooks(run).look()
    assert [*view.missing] == told and view.over
    shown = table.whole([view], 1000, table.BLOCKS)
    assert [line for line in shown if line.startswith("missing: ")] == [f"missing: {text}" for text in told]


@pytest.mark.parametrize("name", ["plan.json", "result.json", "ranks.json"])
@pytest.mark.parametrize(
    ("data", "fault"),
    [(b"", "empty (expected a JSON document)"), (b"[]", ""), (b"\xff", "not UTF-8"), (b'{"a', "line 1: ")],
)
def test_a_damaged_document_is_named_once(tmp_path: Path, name: str, data: bytes, fault: str) -> None:
    run = finished(tmp_path)
    if name == "ranks.json":
        run.result.unlink()
    (run.path / name).write_bytes(data)
    view = RunLooks(run).look()
    found = [text for text in view.missing if text != LOST]
    assert len(found) == 1 and found[0].startswith(f"{name}: {fault}") and view.over
    assert view.elapsed is not None and view.elapsed <= 60


def test_a_run_with_a_damaged_result_is_not_watched_for_ever(tmp_path: Path) -> None:
    finished(tmp_path).result.write_bytes(b"{")
    found = launch(tmp_path, "top", "made")
    assert found.returncode == 0 and len(found.stdout.splitlines()) == 1


def test_a_folder_that_no_launcher_has_filled_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "made"
    RunDir.create(path, ())
    (path / "ranks").mkdir(exist_ok=True)
    view = RunLooks(RunDir(path)).look()
    text = "nothing was written into this folder: its launcher ended before the run began"
    assert view.missing == (f"{text}; start the job again, and remove {path}",)
    assert table.whole([view], 1000, table.BLOCKS) == ["made, lost", f"missing: {view.missing[0]}"]


@pytest.mark.parametrize(
    ("ranks", "said"), [(2, ["rank [0-1] does not tell waiting: OWN holds it, too"]), (1, [])]
)
def test_own_time_that_holds_waiting_is_said_to(tmp_path: Path, ranks: int, said: list[str]) -> None:
    run = finished(tmp_path, ranks=ranks)
    for rank in range(ranks):
        beat = json.loads(run.heartbeat(rank).read_text())
        run.heartbeat(rank).write_text(json.dumps(dict(beat, wait_s=None)))
    assert [*RunLooks(run).look().missing] == said


def test_a_killed_launcher_leaves_a_lost_run_that_ends_with_its_last_word(tmp_path: Path) -> None:
    run = finished(tmp_path)
    run.result.unlink()
    view = RunLooks(run).look()
    assert view.state == "lost" and view.over and view.elapsed == 6.0
    assert {rank.state for rank in view.ranks} == {"finished"}


def test_what_is_new_is_taken_and_a_restart_begins_anew(tmp_path: Path) -> None:
    run = finished(tmp_path)
    run.result.unlink()
    looks = RunLooks(run)
    looks.look()
    data = {"kind": "nan", "step": 3, "text": "loss is\nNaN"}
    new = [{"event": "alert", "data": data}, {"event": "restart", "data": {"attempt": 1}}]
    with run.events.open("ab") as stream:
        stream.write(lines([{"time": START + 9, "rank": None, **event} for event in new]))
    view = looks.look()
    assert view.attempt == 2 and view.straggler is None and view.alerts == ("loss is\\x0aNaN",)
    assert view.ranks[0].state == "waiting"


def test_of_other_hosts_there_is_what_the_head_was_told(tmp_path: Path) -> None:
    run = finished(tmp_path)
    run.result.unlink()
    run.events.unlink()
    for path in (run.heartbeat(0), run.heartbeat(1)):
        path.unlink()
    rows = {"0": ["node1", 5, None, 70, "train"], "1": ["node2", 6, 1, 60, "train"]}
    (run.path / "ranks.json").write_text(json.dumps(rows))
    view = RunLooks(run).look()
    assert view.step == 60 and [rank.step for rank in view.ranks] == [70, 60]
    assert view.ranks[1].state == "failed" and view.ranks[0].memory is None


FILES = ("plan.json", "result.json", "events.jsonl", "report.txt", "ranks.json", "launcher.json",
         "ranks/0/heartbeat.json", "ranks/0/metrics.jsonl", "logs/rank_0.log")  # fmt: skip
JUNK = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode() + b"\n"),
    st.sampled_from(
        [b'{"step": 1e999, "own_s": -1}', b'{"rank": 0}', b'{"ends": [{"rank": []}], "exit_code": 1}',
         b'{"time": 1e308, "event": "started", "rank": 0, "data": {"pid": 1e300}}\n',
         b'{"time": -1, "event": "restart", "data": {"attempt": "x"}}\n', b'{"seconds": true, "ends": 3}',
         b'{"step": 5, "loss": 1e299}\n{"step": 4, "loss": -1e299}\n']
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return finished(tmp_path_factory.mktemp("made"))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(FILES), data=JUNK, cut=st.integers(0, 400), junk=st.booleans())
def test_damaged_files_cost_no_view(made: RunDir, name: str, data: bytes, cut: int, junk: bool) -> None:
    path = made.path / name
    before = path.read_bytes() if path.exists() else None
    looks = RunLooks(made)
    try:
        looks.look()
        path.write_bytes(data if junk else (before or b"")[:cut])
        views = [looks.look(), RunLooks(made).look()]
    finally:
        path.unlink()
        if before is not None:
            path.write_bytes(before)
    for view in views:
        json.dumps(snapshot.document([view], 0.0)).encode("ascii")
        assert all(line.isprintable() for line in table.whole([view], 80, table.BLOCKS))
        assert table.one_line(view).isprintable()


def test_shares_are_of_the_last_readings_whatever_the_clock_does() -> None:
    pace = Pace()
    for steps in range(1, 9):
        pace.take(counters(10 * steps, own=steps, wait=steps if steps > 4 else 0, when=START - 100 * steps))
    first, last, seconds = pace.made
    assert last.steps - first.steps == 30 and seconds == 6 and pace.steps() == 5
    assert pace.figures()["examples_per_second"] == 40


def test_counters_that_go_back_are_of_a_new_attempt_and_unknown_waiting_stays_unknown() -> None:
    pace = Pace()
    pace.take(counters(100, own=50))
    pace.take(counters(10, own=1, wait=None))
    assert pace.steps() == 10 and "wait" not in pace.figures()


def test_the_curve_stays_bounded_and_takes_back_what_a_restart_repeats() -> None:
    curve = Curve()
    for step in range(1, 20001):
        curve.add({"step": step, "loss": 1.0 if step <= 10000 else 3.0})
    assert len(curve.losses) <= POINTS and curve.losses[0] == 1.0 and curve.losses[-1] == 3.0
    curve.add({"step": 5000, "loss": 1.0})
    assert set(curve.losses) == {1.0}


def test_a_file_that_grows_is_read_once_and_an_exchanged_one_anew(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one\ntw")
    growing = Growing(path)
    assert growing.look() == [b"one"] and growing.look() == []
    with path.open("ab") as stream:
        stream.write(b"o\n")
    assert growing.look() == [b"two"]
    path.write_bytes(b"x\n")
    assert growing.look() == [b"x"]


def test_npu_smi_is_asked_beside_the_view(tmp_path: Path) -> None:
    tool = tmp_path / "npu-smi"
    tool.write_text(f"#!/bin/sh\n[ \"$2\" = -m ] || cat <<'END'\n{SMI}END\n")
    tool.chmod(0o755)
    for number in (0, 1):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / f"davinci{number}").touch()
    npus = Npus(Machine({"PATH": f"{tmp_path}:{os.environ['PATH']}"}, root=str(tmp_path)))
    npus.look(patience=10)
    expected = {"npu": 97, "npu_memory": 3318, "npu_memory_total": 65536, "temperature": 43, "power": 101.8}
    assert with_npu(npus.chips, 0) == expected
    assert with_npu(npus.chips, 1) == {"npu_memory": 3314, "npu_memory_total": 65536, "temperature": 39}
    assert with_npu(npus.chips, 7) == with_npu(npus.chips, None) == {}


def test_npu_smi_that_is_not_there_is_said(tmp_path: Path) -> None:
    npus = Npus(Machine({"PATH": ""}, root=str(tmp_path)))
    npus.look(patience=10)
    assert not npus.chips and "npu-smi" in npus.problem


def views(count: int) -> RunView:
    known: dict[str, Any] = {"state": "running", "phase": "train", "own": 0.5, "wait": 0.2, "input": 0.3}
    chips = {"npu": 97, "npu_memory": 3318, "npu_memory_total": 65536, "temperature": 43, "power": 101.8}
    ranks = [RankView(rank, f"n{rank % 2}", rank, step=rank, **known, **chips) for rank in range(count)]
    return RunView("a", "/a", "running", ranks=tuple(ranks), losses=(3.0, 2.0, 1.0), loss=1.0)


@pytest.mark.parametrize("width", [1, 20, 80, 132, 300])
def test_lines_fit_and_what_matters_most_stays(width: int) -> None:
    found = table.whole([views(3)], width, table.BLOCKS)
    assert all(len(line) <= max(width, 4) for line in found)
    titles = found[-4].split()
    assert {20: {"STEP"}, 80: {"OWN", "WAIT", "INPUT", "NPU%"}, 300: {"POWER", "HOST"}}.get(
        width, set()
    ) <= set(titles)


class Fake(RunLooks):
    def __init__(self, view: RunView) -> None:
        self.run, self._shown = RunDir(Path("/nonexistent")), view

    def look(self, patience: float = 0.0) -> RunView:
        return self._shown


def test_keys_choose_sort_scroll_open_and_go_back() -> None:
    shown = screen.Screen([Fake(views(64)), Fake(views(2))], table.PLAIN)
    shown.look()
    assert shown.lines(80, 24)[1] == 1
    shown.press("enter")
    for _ in range(70):
        shown.press("down")
    found, chosen = shown.lines(80, 24)
    assert len(found) == 24 and found[chosen].split()[0] == "63"
    shown.press("s")
    shown.press("enter")
    assert "rank 63" in shown.lines(80, 24)[0][0]
    shown.press("back")
    shown.press("?")
    assert shown.lines(80, 24)[0] == list(screen.HELP)
    shown.press("x")
    shown.press("back")
    assert shown.lines(80, 24)[0][0].startswith("RUN") and not shown.press("q")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[tuple[int, Any, list[Any]]]:
    finished(tmp_path, ranks=3)
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    words = [sys.executable, "-m", "launcher", "top", "made", "--interval", "0.2"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    child = subprocess.Popen(
        [sys.executable, "-c", TAKE, *words[1:]], stdin=slave, stdout=slave, stderr=slave,
        cwd=str(tmp_path), env=environ, start_new_session=True,
    )  # fmt: skip
    try:
        yield master, child, before
    finally:
        child.kill()
        child.wait()
        os.close(master)
        os.close(slave)


TAKE = (  # the terminal becomes that of the new session
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def until(master: int, text: str, seen: bytes = b"") -> bytes:
    end = time.monotonic() + 20
    while text.encode() not in seen and time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            seen += os.read(master, 65536)
    assert text.encode() in seen, seen[-2000:]
    return seen


@pytest.mark.parametrize(
    ("number", "code"), [(None, 0), (signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_every_end_restores_the_terminal(terminal: Any, number: signal.Signals | None, code: int) -> None:
    master, child, before = terminal
    until(master, "RANK")
    assert not termios.tcgetattr(master)[3] & termios.ICANON
    os.write(master, b"j\r")
    until(master, "rank 1 of made")
    os.write(master, b"\x7f")
    until(master, "q quit  ?")
    if number is None:
        os.write(master, b"q")
    else:
        child.send_signal(number)
    until(master, "\x1b[?1049l")
    assert child.wait(timeout=20) == code
    assert termios.tcgetattr(master) == before


def test_a_stopped_view_gives_the_terminal_back_and_takes_it_again(terminal: Any) -> None:
    master, child, before = terminal
    until(master, "RANK")
    os.write(master, b"\x1a")  # Ctrl-Z
    until(master, "\x1b[?1049l")
    for _ in range(200):
        if Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            break
        time.sleep(0.05)
    assert termios.tcgetattr(master) == before
    child.send_signal(signal.SIGCONT)
    until(master, "\x1b[?1049h")
    os.write(master, b"q")
    assert child.wait(timeout=20) == 0 and termios.tcgetattr(master) == before


PROGRAM = """
import json, os, time
folder, rank = os.environ["NPU_LAUNCH_RANK_DIR"], int(os.environ["RANK_ID"])
beat = {"step": 7 + rank, "phase": "train", "time": time.time(), "total_steps": 100, "steps": 7 + rank,
        "examples": 70, "tokens": 0, "input_s": 1.0, "own_s": 6.0, "wait_s": None, "save_s": 0.0}
with open(folder + "/heartbeat.json.new", "w") as stream:
    json.dump(beat, stream)
os.replace(folder + "/heartbeat.json.new", folder + "/heartbeat.json")
print("up", flush=True)
while not os.path.exists("GO"):
    time.sleep(0.02)
"""


def test_a_run_of_two_ranks_while_it_goes_on_and_afterwards(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.replace("GO", str(tmp_path / "go")))
    (tmp_path / "job.yaml").write_text("job: pair\nprogram: program.py\ndevices: 0-1\n")
    words = [sys.executable, "-m", "launcher", "job.yaml"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        words, cwd=str(tmp_path), env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        try:
            end = time.monotonic() + 30
            while len(list(tmp_path.glob("runs/pair*/logs/rank_*.index"))) < 2 and time.monotonic() < end:
                time.sleep(0.05)
            document = json.loads(launch(tmp_path, "top", "--json").stdout)
            text = launch(tmp_path, "top", "--once").stdout
        finally:
            (tmp_path / "go").touch()
        running.wait(timeout=30)
    (run,) = document["runs"]
    assert set(run) == set(snapshot.names(RunView)) and document["schema"] == snapshot.SCHEMA
    assert (run["state"], run["step"], run["total_steps"]) == ("running", 7, 100)
    (first, second) = run["ranks"]
    assert first["memory"] > 1 << 20 and first["own"] == pytest.approx(6 / 7) and first["wait"] is None
    assert second["step"] == 8 and first["state"] == "running" and first["line_age"] >= 0
    assert "step 7/100" in text and "WAIT" in text
    after = launch(tmp_path, "top")
    assert after.returncode == 0 and "finished, exit code 0" in after.stdout


def test_several_runs_have_a_line_each_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    run = finished(tmp_path)
    os.rename(str(run.path), str(run.path.with_name("other")))
    finished(tmp_path)
    found = launch(tmp_path, "top", "--once", "made", "other", env={"COLUMNS": "80"}).stdout.splitlines()
    assert [line.split()[0] for line in found] == ["RUN", "made", "other"]
    bad = launch(tmp_path, "top", "nowhere")
    assert bad.returncode == 2 and "no such run" in bad.stderr
    empty = launch(tmp_path, "top", "--runs-dir", "none")
    assert empty.returncode == 2 and "no run yet" in empty.stderr


def test_chips_without_figures_add_nothing() -> None:
    assert with_npu({0: SmiChip(0)}, 0) == {}
