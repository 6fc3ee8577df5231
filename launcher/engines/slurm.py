"""Slurm: srun starts one agent on each node of the allocation that the head runs in.

Options and words are those of Slurm 22.05 (docs/several-hosts.md says what was run). srun's exit code is the
highest of its tasks', so it decides nothing about hosts whose agents have told of their end.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from contextlib import suppress
from typing import Mapping, Sequence

from launcher.engines.base import Allocation, Engine
from launcher.engines.hostlist import compress, expand
from launcher.errors import NotFoundError, UsageError
from launcher.hosts.transport import EngineEnd

_SPECIAL_STEPS = 0xFFFFFFF0  # from here: batch script, interactive shell of salloc, ...
_PATIENCE = 10.0  # seconds for an answer of slurmctld
# Variables that are options to srun, and would change what is asked for below.
_SRUN_OPTIONS = frozenset(
    """
    SLURM_CPUS_PER_TASK SRUN_CPUS_PER_TASK SLURM_CPU_BIND SLURM_DISTRIBUTION SLURM_EXACT SLURM_EXCLUSIVE
    SLURM_EXPORT_ENV SLURM_HOSTFILE SLURM_IMMEDIATE SLURM_KILL_BAD_EXIT SLURM_LABELIO SLURM_MPI_TYPE
    SLURM_MULTI_PROG SLURM_NO_KILL SLURM_NPROCS SLURM_NTASKS SLURM_NTASKS_PER_NODE SLURM_NTASKS_PER_TRES
    SLURM_OVERLAP SLURM_QUIT_ON_INTERRUPT SLURM_REMOTE_CWD SLURM_SPREAD_JOB SLURM_STDERRMODE SLURM_STDINMODE
    SLURM_STDOUTMODE SLURM_TASK_EPILOG SLURM_TASK_PROLOG SLURM_TIMELIMIT SLURM_TRES_PER_TASK
    SLURM_UNBUFFEREDIO SLURM_WAIT SLURM_WHOLE SLURM_WORKING_DIR SRUN_NTASKS_PER_TRES
    """.split()
)


class Slurm(Engine):
    """The allocation of `salloc` or `sbatch`; within `srun`, that of the step."""

    name = "slurm"
    agent_options = ("--engine=slurm",)

    def __init__(self, environ: Mapping[str, str]) -> None:
        if not environ.get("SLURM_JOB_ID"):
            raise UsageError(
                "engine: slurm, but this is no allocation of Slurm; start with salloc --nodes N, or hand the"
                " job over: npu-launch submit --engine slurm --nodes N"
            )
        self._environ = environ
        self._allocation: Allocation | None = None
        self.job_id = environ["SLURM_JOB_ID"]

    def allocation(self) -> Allocation:
        """Return the nodes in the order of their tasks, and the NPUs of each where Slurm says them."""
        self._allocation = self._allocation or self._ask()
        return self._allocation

    def _ask(self) -> Allocation:
        hosts = nodes(self._environ)
        if not hosts:
            step = "SLURM_STEP_NODELIST" if is_step(self._environ) else "SLURM_JOB_NODELIST"
            raise UsageError(f"{step} is not set, as it is in an allocation; start with salloc --nodes N")
        return Allocation(self.name, hosts, self.job_id, devices_of(hosts, self.job_id, self._environ))

    def argv(self, agent: Sequence[str], hosts: Sequence[str]) -> list[str]:
        """Return the command of a step with one agent on each node.

        The step shares everything with others (--overlap), as a shell of salloc may hold all; it has every
        core of the job on its nodes, as no --cpus-per-task is given. No task ends another: agents do that.
        """
        return [
            "srun", f"--jobid={self.job_id}", "--job-name=npu-launch", f"--nodes={len(hosts)}",
            f"--ntasks={len(hosts)}", "--ntasks-per-node=1", f"--nodelist={compress(hosts)}", "--overlap",
            "--export=ALL", "--mpi=none", "--cpu-bind=none", "--kill-on-bad-exit=0", "--wait=0", *agent,
        ]  # fmt: skip

    def environ(self, outer: Mapping[str, str]) -> dict[str, str]:
        """Return the environment without srun's options, such as those that sbatch's own options set."""
        return {name: value for name, value in outer.items() if name not in _SRUN_OPTIONS}

    def stop(self, pid: int) -> None:
        """Send SIGTERM to the agents of the step that srun `pid` runs; a signal to srun would kill them."""
        threading.Thread(target=self.orphaned, args=(pid,), daemon=True).start()

    def orphaned(self, pid: int) -> None:
        """Do so at once: the step outlives its srun until slurmctld misses it."""
        step = step_of(pid, _answer(["scontrol", "show", "step", self.job_id]))
        if step:
            _answer(["scancel", "--signal=TERM", step])

    def explain(self, code: int, words: str) -> EngineEnd:
        """Say what srun's exit code and words mean."""
        return explain(code, words)

    def exited(self, words: str) -> tuple[str, ...]:
        """Name the nodes in `srun: error: node[1-2]: tasks 0-1: Exited with exit code 1`."""
        return tuple(name for names in _EXITED.findall(words) for name in expand(names))


def nodes(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the nodes of the job, of the step within one; none where it is not said."""
    step = "SLURM_STEP_NODELIST" if is_step(environ) else "SLURM_JOB_NODELIST"
    names = environ.get(step) or environ.get("SLURM_NODELIST", "")
    return expand(names) if names else ()


def is_step(environ: Mapping[str, str]) -> bool:
    """Tell whether this is a task that srun started, not the script of sbatch or the shell of salloc."""
    step = environ.get("SLURM_STEP_ID", "")
    return step.isdigit() and int(step) < _SPECIAL_STEPS


def step_of(pid: int, steps: str) -> str:
    """Return the id of the step that srun `pid` of this host runs, of what `scontrol show step` prints."""
    here = re.escape(f"{os.uname().nodename.split('.')[0]}")
    for step in re.split(r"\n(?=StepId=)", steps):
        if re.search(rf"SrunHost:Pid={here}[^:\s]*:{pid}\b", step):
            return step.partition("StepId=")[2].split()[0]
    return ""


def _answer(command: Sequence[str]) -> str:
    """Return what a tool of Slurm prints; "" when it is not there or does not answer."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
        return done.stdout.decode(errors="replace")
    return ""


def devices_of(hosts: Sequence[str], job_id: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the NPUs of each node as Slurm has given them; "", or () for all, where it does not say.

    SLURM_STEP_NPUS and SLURM_JOB_NPUS (of Slurm with an NPU plugin) hold physical ids, but of this node
    alone: they count unless the nodes' indexes differ.
    """
    own = environ.get("SLURM_STEP_NPUS") or environ.get("SLURM_JOB_NPUS")
    if own and len(hosts) == 1:
        return (own,)
    indexes = gres_indexes(_answer(["scontrol", "-d", "show", "job", job_id]))
    found = tuple(indexes.get(host, "") for host in hosts)
    if own and len(set(found)) <= 1:
        return (own,) * len(hosts)
    return found if any(found) else ()


_NODES = re.compile(r"^\s+Nodes=(\S+) .*?GRES=(\S+)\s*$", re.MULTILINE)
_GRES = re.compile(r"([A-Za-z_][\w.-]*)(?::[^:(),]+)*\(IDX:([0-9][0-9,-]*)\)")
_NPU_NAMES = ("npu", "ascend", "davinci", "gpu")  # the first that a node has, whatever is behind it


def gres_indexes(job: str) -> dict[str, str]:
    """Map nodes to the indexes of their NPUs, of what `scontrol -d show job` prints.

    A line is `     Nodes=node[1-2] CPU_IDs=1 Mem=0 GRES=npu:4(IDX:3-6)`, the name typed or not.
    """
    found: dict[str, str] = {}
    for nodes, gres in _NODES.findall(job):
        of_kind = {name.lower(): indexes for name, indexes in reversed(_GRES.findall(gres))}
        for kind in _NPU_NAMES:
            chosen = next((text for name, text in of_kind.items() if name.startswith(kind)), "")
            if chosen:
                found.update(dict.fromkeys(expand(nodes), chosen))
                break
    return found


_EXITED = re.compile(r"^srun: error: ([\w.,\[\]-]+): tasks? [\d,\[\]-]+: (?!running)", re.MULTILINE)
_LOST = re.compile(r"Node failure on (\S+)")
_MEANINGS = (  # srun's words (22.05), and what they mean; the first that fits
    (r"DUE TO TIME LIMIT", "the job's time limit is reached"),
    (r"DUE TO PREEMPTION", "the job was preempted"),
    (r"DUE TO NODE FAILURE", "a node failed"),
    (r"CANCELLED AT", "the job or its step was cancelled (scancel)"),
    (r"has expired|completing or completed|[Ii]nvalid job id", "the allocation is over"),
    (r"Invalid node name", "a host is no node of this cluster"),
    (
        r"Only allocated|node configuration is not available|More processors requested",
        "not in the allocation",
    ),
    (r"Requested nodes are busy|temporarily disabled", "the nodes are busy with other steps"),
    (r"Unable to contact slurm controller", "slurmctld does not answer"),
    (r"oom.?kill|Out Of Memory", "a node killed a process for want of memory"),
    (r"execve\(\)", "a node cannot execute the agent (install at one path on all nodes)"),
    (r"launch failed", "a node could not start its agent"),
)


def explain(code: int, words: str) -> EngineEnd:
    """Say what srun's exit code and words mean; "" for what the agents tell better themselves."""
    lost: list[str] = []
    for names in _LOST.findall(words):
        with suppress(UsageError):
            lost += [name for name in expand(names.rstrip(",.")) if name not in lost]
    if lost:
        return EngineEnd(code, f"srun: node failure on {compress(lost)}", tuple(lost))
    said = [line.strip() for line in words.splitlines() if re.match(r"\s*(srun|slurmstepd)\S*: ", line)]
    for pattern, meaning in _MEANINGS:
        line = next((line for line in said if re.search(pattern, line)), "")
        if line:
            return EngineEnd(code, f"{meaning}: {line}")
    if code == -9:
        return EngineEnd(code, "srun was killed by SIGKILL")
    errors = [line for line in said if "error:" in line and "Exited with exit code" not in line]
    return EngineEnd(code, errors[0] if errors and code else "")


def missing_tools() -> str:
    """Name what this host lacks of Slurm's programs; "" when they are there."""
    from shutil import which

    return ", ".join(tool for tool in ("srun", "scontrol", "scancel") if not which(tool))


def require_tools() -> None:
    """Refuse a host without Slurm's programs. NotFoundError: it lacks them."""
    missing = missing_tools()
    if missing:
        raise NotFoundError(f"{missing}: not found in PATH; load the site's Slurm (module load slurm)")
