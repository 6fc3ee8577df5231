"""Start and end many runs at random moments; nothing may be left of any of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.faults.helpers import Job, alive, until
from tests.launching import ROOT

# Read here, as every test's environment is cleared of NPU_LAUNCH_ variables.
RUNS = int(os.environ.get("NPU_LAUNCH_STRESS_RUNS", "1000"))
SEED = int(os.environ.get("NPU_LAUNCH_STRESS_SEED", random.randrange(1 << 30)))
PROGRAM = """
kind = (RANK + int(MARK[-4:], 16)) % 4
if kind == 1: child("import time; time.sleep(60)", start_new_session=True)
if kind == 2: signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(0.05 * kind)
if kind == 3 and RANK == 0: raise ValueError("now and then")
time.sleep(0.2 if kind else 0.0)
"""


def leftovers() -> dict[str, set[str]]:
    """List what a run could leave outside of its own folder."""
    return {
        "shared memory": set(os.listdir("/dev/shm")),
        "temporary files": {name for name in os.listdir(tempfile.gettempdir()) if "npu" in name.lower()},
    }


@pytest.mark.stress
def test_a_thousand_runs_ended_at_random_leave_no_process_no_memory_and_no_file(tmp_path: Path) -> None:
    print("seed", SEED)
    dice = random.Random(SEED)
    before = leftovers()
    for number in range(RUNS):
        folder = tmp_path / str(number)
        folder.mkdir()
        job = Job(folder)
        job.script(PROGRAM)
        job.drive("none", dice.choice([1, 2, 4]), grace=0.2)
        try:
            _disturb(job, dice)
            job.wait()
            job.gone()
        finally:
            job.close()
        # Without a plan it was ended before it took signals, as by SIGKILL.
        if job.process.returncode != -signal.SIGKILL and list(folder.glob("runs/*/plan.json")):
            names = {path.name for path in job.path.rglob("*") if path.is_file()}
            assert not [name for name in names if name.endswith((".tmp", ".reserve"))], (SEED, number, names)
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    until(lambda: not _launchers(tmp_path), "launchers or watchdogs are left")
    after = leftovers()
    assert {key: after[key] - before[key] for key in before} == {key: set() for key in before}


def _disturb(job: Job, dice: random.Random) -> None:
    """Send a signal to the launcher, or to a rank, or to nobody, at some moment of the run."""
    try:
        job.process.wait(dice.random() * 0.6)
    except subprocess.TimeoutExpired:
        pass
    kind = dice.choice(["nobody", "launcher", "launcher", "twice", "rank"])
    numbers = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]
    number = dice.choice(numbers)
    if kind == "rank":
        for pid in list(job.living())[:1]:
            _send(pid, dice.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
    elif kind != "nobody" and job.process.poll() is None:
        _send(job.process.pid, number)
        if kind == "twice":
            _send(job.process.pid, signal.SIGINT)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _launchers(folder: Path) -> list[int]:
    """Find processes, such as watchdogs, that still name the test's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder).encode() in path.read_bytes() and alive(int(path.parent.name)):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


IN_PROCESS = """
import json, os, sys
sys.argv = ["driver", "none", "{}", "1", "true"]
from pathlib import Path
from launcher.ui.console import Console
from launcher.run_dir import RunDir
from launcher.supervision.supervisor import supervise
from tests.faults.driver import make_plan
counts, console = [], Console(sys.stdout)
for number in range(8):
    run = RunDir.create(Path.cwd() / "runs" / str(number), range(3))
    plan = make_plan(run, {"grace": 1.0}, 3, ["/bin/sh", "-c", "sleep 60 & exit %d" % (number % 3)])
    code = supervise(plan, run, console).exit_code
    assert code == number % 3, code
    counts.append(len(os.listdir("/proc/self/fd")))
children = open("/proc/self/task/%d/children" % os.getpid()).read().split()
print(json.dumps({"descriptors": counts, "children": children}), file=sys.stderr)
"""


def test_runs_in_one_process_leave_no_descriptor_and_no_child(tmp_path: Path) -> None:
    done: Any = subprocess.run(
        [sys.executable, "-c", IN_PROCESS],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    value = json.loads(done.stderr.decode().splitlines()[-1])
    assert len(set(value["descriptors"])) == 1 and value["children"] == []
