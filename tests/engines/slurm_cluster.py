"""A Slurm of four nodes on this host, as several slurmd with a name, a port and a spool folder each.

Needs slurmctld, slurmd and slurm-client (22.05 on Debian 12), neither systemd nor cgroups nor munge.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Iterator

from tests.launching import ROOT
from tests.ports import free_ports

INSTALL = "apt-get install -y --no-install-recommends slurmctld slurmd slurm-client"
NODES = ("node1", "node2", "node3", "node4")
DEVICES = 8  # of each node
CONFIGURATION = """
ClusterName=npulaunchtests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=5
SchedulerParameters=bf_interval=1,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=npu
SlurmdParameters=config_overrides
NodeName=node[1-4] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=8 RealMemory=4000 \
Gres=npu:{devices} State=UNKNOWN
PartitionName=npu Nodes=node[1-4] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=node[1-4] MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


def missing() -> str:
    """Say what to install; "" when all is there."""
    paths = os.environ.get("PATH", "") + ":/usr/sbin"
    needed = ("slurmctld", "slurmd", "srun", "sbatch")
    lacking = [name for name in needed if not shutil.which(name, path=paths)]
    return f"{', '.join(lacking)} not found: {INSTALL}" if lacking else ""


class Cluster:
    """A Slurm that runs from `up` to `down`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin",
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PYTHONPATH": str(ROOT),
        }

    def up(self) -> None:
        """Write the configuration and start the daemons."""
        for name in ("run", "log", "state"):
            (self.folder / name).mkdir()
        for node in NODES:
            (self.folder / "spool" / node).mkdir(parents=True)
            (self.folder / "dev" / node).mkdir(parents=True)
            for number in range(DEVICES):
                (self.folder / "dev" / node / f"davinci{number}").touch()
        port = free_ports(len(NODES) + 1)
        user = pwd.getpwuid(os.geteuid()).pw_name
        ports = {"port": port, "first": port + 1, "last": port + len(NODES)}
        text = CONFIGURATION.format(folder=self.folder, devices=DEVICES, user=user, **ports)
        (self.folder / "slurm.conf").write_text(text)
        gres = [f"NodeName={node} Name=npu File={self.folder}/dev/{node}/davinci[0-7]\n" for node in NODES]
        (self.folder / "gres.conf").write_text("".join(gres))
        self.call("slurmctld", "-c")
        for node in NODES:
            self.revive(node)
        self.wait_idle()

    def revive(self, node: str) -> None:
        """Start the slurmd of a node."""
        self.call("slurmd", "-N", node)

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until every node takes jobs."""
        end = time.monotonic() + timeout
        while len(self.call("sinfo", "-h", "-N", "-p", "npu", "-t", "idle", "-o", "%N").split()) < len(NODES):
            if time.monotonic() > end:
                raise TimeoutError(self.call("sinfo", "-N", "-l"))
            time.sleep(0.1)

    def down(self) -> None:
        """End all jobs, then the daemons."""
        for job in self.call("squeue", "-h", "-o", "%i").split():
            self.call("scancel", job)
        end = time.monotonic() + 15
        while self.call("squeue", "-h", "-o", "%i").split() and time.monotonic() < end:
            time.sleep(0.2)
        for path in sorted((self.folder / "run").glob("*.pid")):
            with suppress(OSError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)

    def call(self, *words: str) -> str:
        """Run a program of Slurm; return what it prints."""
        quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        done = subprocess.run(words, env=self.environ, stdout=subprocess.PIPE, timeout=60, **quiet)
        return done.stdout.decode()

    def is_requeued(self, job: str) -> bool:
        """Tell whether a job waits for its next start, 2 minutes after it was put back in the queue."""
        return self.call("squeue", "-h", "-o", "%T|%r", "--job", job).strip() == "PENDING|BeginTime"

    def hurry(self, job: str) -> None:
        """Let a job that was put back start in 2 seconds, not in 2 minutes.

        To be called again: Slurm sets its 2 minutes anew when the last process of the job has gone. Not at
        once: within the second of its end the nodes still refuse it ("Job credential revoked").
        """
        start = self.call("squeue", "-h", "-o", "%S", "--job", job).strip()
        soon = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 10))
        if self.is_requeued(job) and start[:1].isdigit() and start > soon:
            self.call("scontrol", "update", f"job={job}", "StartTime=now+2")

    def start(self, cwd: Path, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start a program; both its streams are one."""
        return subprocess.Popen(
            words, cwd=str(cwd), env={**self.environ, **env}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        )  # fmt: skip

    def processes_on(self, node: str) -> list[int]:
        """List the processes of tasks on a node."""
        return [pid for pid, text in _environs() if f"SLURMD_NODENAME={node}" in text.split("\0")]

    def kill_node(self, node: str) -> None:
        """Let a node die at once: slurmd, its slurmstepds, and every process of its tasks."""
        tasks = self.processes_on(node)
        parents = {_parent(pid) for pid in tasks}
        stepds = [pid for pid in parents if "slurmstepd" in command(pid)]
        slurmd = int((self.folder / "run" / f"{node}.pid").read_text())
        for pid in (slurmd, *stepds, *tasks):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[tuple[int, str]]:
    """List the living processes whose environment has MARK=mark, with their command."""
    found = [pid for pid, text in _environs() if f"NPU_TEST_MARK={mark}" in text.split("\0")]
    return [(pid, command(pid)) for pid in found if command(pid)]


def _environs() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                yield int(name), Path("/proc", name, "environ").read_bytes().decode(errors="replace")


def command(pid: int) -> str:
    """Return the command of a process; "" when it has ended."""
    with suppress(OSError):
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def wait_for(condition: Any, timeout: float = 30.0, what: str = "") -> Any:
    """Wait until a function returns something true; return it."""
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.05)
