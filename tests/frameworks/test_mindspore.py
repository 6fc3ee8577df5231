"""MindSpore under npu-launch beside msrun: what its processes are given; a run that loses some."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable

from launcher.plan import ports
from launcher.plan.host_plan import host_plan
from tests.frameworks.differences import OF_A_TERMINAL, beyond, documented, of_every_rank
from tests.frameworks.needs import PROGRAMS, needs
from tests.launcher.hosts.several import job, laid_out, order, with_npus

pytestmark = needs("mindspore")
# No import of mindspore: the framework is given. A file for each process, as their outputs may mix.
SHOW = """
import json, os, sys
with open(f"{sys.argv[1]}-{os.environ['MS_ROLE']}-{os.environ['RANK_ID']}.json", "w") as stream:
    json.dump(dict(os.environ), stream)
"""
PROCESSES = ("MS_SCHED-0", "MS_WORKER-0", "MS_WORKER-1")
# name: why its value is another one than msrun's. All other names have msrun's value.
OTHER_VALUE = {
    "MS_SCHED_PORT": "a port that is free now",
    "OMP_NUM_THREADS": "the rank's share of the cores; msrun leaves what its own import of mindspore has set",
}
# name: why there is none.
LACKING = {
    "MS_TOPO_TIMEOUT": "MindSpore's default holds, as a worker that does not come is seen to end",
    "LD_LIBRARY_PATH": "set by msrun's own import of mindspore, as by the rank's",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "set by msrun's own import of mindspore, as by the rank's",
}
FAMILY = ("MS_ROLE", "MS_SCHED_HOST", "MS_WORKER_NUM", "RANK_ID", "RANK_SIZE")


def of_msrun(folder: Path) -> dict[str, dict[str, str]]:
    """Give what msrun gives to its processes."""
    port = ports.free(str(folder))
    words = ["--worker_num=2", "--local_worker_num=2", f"--master_port={port}", "--log_dir=logs"]
    msrun = [sys.executable, "-m", "mindspore.parallel.cluster.run", "--join=True", *words]
    command = [*msrun, "show.py", "theirs"]
    here = os.path.dirname(sys.executable)
    env = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}"}  # it starts the `python` of PATH
    done = subprocess.run(command, cwd=str(folder), env=env, capture_output=True, timeout=100, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return read(folder, "theirs")


def read(folder: Path, name: str) -> dict[str, dict[str, str]]:
    return {one: json.loads((folder / f"{name}-{one}.json").read_text()) for one in PROCESSES}


def test_each_process_is_given_what_msrun_gives_it(tmp_path: Path, run_job: Callable[..., Any]) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    run_job("--devices", "0-1", "framework=mindspore", "--", "show.py", "ours")
    ours, theirs = read(tmp_path, "ours"), of_msrun(tmp_path)
    lacking, differing = set(), set()
    for one in PROCESSES:
        new = {name: value for name, value in theirs[one].items() if value != os.environ.get(name)}
        del new["PATH"]
        assert {*FAMILY, *(["MS_NODE_ID", "DEVICE_ID"] if one != "MS_SCHED-0" else [])} <= set(new), one
        lacking |= {name for name in new if name not in ours[one]}
        differing |= {name for name, value in new.items() if ours[one].get(name, value) != value}
        assert beyond(ours[one], theirs[one]) <= of_every_rank(), one
    assert lacking - OF_A_TERMINAL == set(LACKING)
    assert differing | {"OMP_NUM_THREADS"} == set(OTHER_VALUE)  # which may be equal by chance
    assert documented("MindSpore, beside msrun") == {*OTHER_VALUE, *LACKING}
    assert len({env["MS_SCHED_PORT"] for env in ours.values()}) == 1
    assert "MS_NODE_ID" not in theirs["MS_SCHED-0"] and "MS_NODE_ID" not in ours["MS_SCHED-0"]


def test_ranks_with_a_table_have_what_mindspore_s_part_for_npus_asks_for() -> None:
    spec = find_spec("mindspore")
    assert spec is not None and spec.origin
    library = Path(spec.origin).parent / "lib" / "plugin" / "ascend" / "libmindspore_ascend_res_manager.so"
    asked = re.search(rb"make sure \[([A-Z_,]+)\] all be set in ENV", library.read_bytes())
    assert asked
    keys: dict[str, Any] = {"backend": "npu", "framework": "mindspore"}
    hosts = [with_npus(0, port=25000), with_npus(1, port=25000)]
    plan = host_plan(order(job(**keys), laid_out(hosts, **keys)), hosts[1], {"PATH": os.defpath}).plan
    names = asked.group(1).decode().split(",")
    assert names == ["RANK_TABLE_FILE", "RANK_ID", "DEVICE_ID"] and set(names) <= set(plan.ranks[0].env)


def test_a_run_survives_the_end_of_a_worker_and_that_of_the_scheduler(run_job: Callable[..., Any]) -> None:
    program = PROGRAMS / "mindspore_train.py"
    done = run_job("--devices", "0-1", "--max-restarts", "2", "grace=3", "--", program)
    assert "framework mindspore: " in done.stdout + done.stderr
    failures = re.findall(r"npu-launch: (rank \d|the scheduler) \(.*failed first: (.*); restart", done.stdout)
    killed = "killed by SIGKILL, not by npu-launch"
    assert failures == [("rank 1", killed), ("the scheduler", killed)]
    logs = [(done.run_dir / "logs" / f"rank_{rank}.log").read_text() for rank in (0, 1)]
    for rank, log in enumerate(logs):
        begun = re.findall(rf"worker {rank} of 2 begins at step (\d)", log)
        assert begun[0] == "0" and begun[-1] == "4" and len(begun) == 3, log
    weights = [re.findall(r"weights (\[.*\])", log) for log in logs]
    assert len(weights[0]) == 1 and weights[0] == weights[1] != [[]]
    result = json.loads((done.run_dir / "result.json").read_text())
    assert result["attempts"] == 3 and result["culprit"] is None
    # It ends by itself when its workers have told it of their end, which not every program brings about.
    assert result["scheduler"]["state"] in ("finished", "ended by npu-launch")
