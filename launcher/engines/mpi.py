"""Open MPI: mpirun starts one agent on each host over the user's ssh, or over what the site has for it.

Options and words are those of Open MPI 4.1.4 and of 5.0.11 (PRRTE), which were run. The job's variables do
not go through mpirun (-x): the head's order brings them, so that no secret is in a command line. mpirun's
exit code decides nothing about agents that have told of their end.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Mapping, Sequence

from launcher.config.job import JobConfig
from launcher.engines import hostfile
from launcher.engines.base import Allocation, Engine
from launcher.errors import LauncherError, NotFoundError, UsageError
from launcher.hosts.transport import EngineEnd

_PATIENCE = 10.0  # seconds for `mpirun --version`
_STANDARD = ("/usr/bin", "/usr/local/bin", "/bin")  # where every shell looks
# Seconds that an agent may need beyond the grace of its ranks. A daemon that ends its agent sleeps for both,
# twice, though the agent is long gone.
_MARGIN = 2
INSTALL = "install Open MPI (Debian, Ubuntu: apt-get install openmpi-bin) or load it (module load openmpi)"


class Mpi(Engine):
    """The hosts of `hosts:` or `hostfile:`, else those of Slurm's or PBS's allocation."""

    name = "mpi"
    agent_options = ("--engine=mpi",)
    line = 1 << 16  # cut anywhere, and joined again: short lines have no use
    reaches_own_children = False

    def __init__(self, config: JobConfig, environ: Mapping[str, str]) -> None:
        self._config, self._environ = config, environ
        self._hosts = _hosts(config, environ)
        self._mpirun = _mpirun(environ)
        self._version = _version(self._mpirun)
        self.after_tag = b" " if self._version >= 5 else b""
        self._networks = list(config.interfaces)
        if os.geteuid() == 0 and not _root_is_allowed(config, environ):
            raise UsageError(
                "engine: mpi: mpirun refuses root; start npu-launch as another user, or say that root may:"
                " run_as_root=true"
            )
        if not self._networks and not _networks_are_given(environ):
            from launcher.engines.networks import common_network

            self._networks = common_network([item.host for item in self._hosts])

    def allocation(self) -> Allocation:
        """Return the hosts; their devices where every host's slots are given."""
        hosts = tuple(item.host for item in self._hosts)
        return Allocation(self.name, hosts, self._environ.get("PBS_JOBID", ""), hostfile.devices(self._hosts))

    def argv(self, agent: Sequence[str], hosts: Sequence[str]) -> list[str]:
        """Return the command that starts the agents.

        `seq` gives rank i to the i-th host; `ppr:1:node` would give the first to this host wherever it
        stands. Ranks may use all cores of their host. A failing agent ends no other: agents do that.
        """
        root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
        return [
            self._mpirun, *root, "--host", ",".join(f"{host}:1" for host in hosts), "--map-by", "seq",
            "-n", str(len(hosts)), "--bind-to", "none", "--stdin", "all", "--tag-output",
            *self._parameters(), *agent,
        ]  # fmt: skip

    def _parameters(self) -> list[str]:
        """Return mpirun's own settings, by the names of its version."""
        new = self._version >= 5
        option, runtime, shell = ("--prtemca", "prte", "plm_ssh") if new else ("--mca", "orte", "plm_rsh")
        grace = str(math.ceil(self._config.grace) + _MARGIN)
        values = {
            f"{runtime}_abort_on_non_zero_status": "0",
            "odls_base_sigkill_timeout": grace,
            f"{shell}_no_tree_spawn": "1",
        }
        if self._networks:
            values["oob_tcp_if_include"] = ",".join(self._networks)
        if self._uses_ssh():
            seconds = max(1, min(20, int(self._config.host_timeout / 2)))
            values[f"{shell}_args"] = f"-o BatchMode=yes -o ConnectTimeout={seconds}"
        return [word for name, value in values.items() for word in (option, name, value)]

    def _uses_ssh(self) -> bool:
        """Tell whether the remote shell is ssh as it is, whose options are known."""
        own = [name for name in self._environ if re.search(r"_(plm|orte)_(rsh|ssh)_(agent|args)$", name)]
        return not own and shutil.which("ssh", path=self._environ.get("PATH")) is not None

    def environ(self, outer: Mapping[str, str]) -> dict[str, str]:
        """Return the environment, without what an mpirun around this one has set for its own processes."""
        if "OMPI_COMM_WORLD_RANK" not in outer:
            return dict(outer)
        own = ("OMPI_COMM_", "PMIX_", "OMPI_MCA_orte_", "OMPI_MCA_ess")
        return {name: value for name, value in outer.items() if not name.startswith(own)}

    def stop(self, pid: int) -> None:
        """Let mpirun end the agents: SIGTERM, and SIGKILL when their grace is over."""
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)

    def explain(self, code: int, words: str) -> EngineEnd:
        """Say what mpirun's exit code and words mean."""
        return explain(code, words)


def _hosts(config: JobConfig, environ: Mapping[str, str]) -> list[hostfile.Slots]:
    if config.hosts and config.hostfile:
        raise UsageError("hosts, hostfile: both are given; leave one of them out")
    if config.hosts:
        return hostfile.read_words(config.hosts)
    if config.hostfile:
        return hostfile.read_file(Path(config.hostfile).expanduser())
    if environ.get("PBS_NODEFILE"):
        return hostfile.read_file(Path(environ["PBS_NODEFILE"]))
    if environ.get("SLURM_JOB_NODELIST"):
        from launcher.engines.hostlist import expand

        return [hostfile.Slots(name, 0, "") for name in expand(environ["SLURM_JOB_NODELIST"])]
    raise UsageError("engine: mpi: no hosts; give hosts=node1,node2 or hostfile=FILE")


def _mpirun(environ: Mapping[str, str]) -> str:
    """Return mpirun; with its folder where no shell looks: that makes it find its parts on the hosts."""
    found = shutil.which("mpirun", path=environ.get("PATH"))
    if found is None:
        raise NotFoundError(f"mpirun: not found in PATH; {INSTALL}")
    return "mpirun" if os.path.dirname(found) in _STANDARD else found


def _version(mpirun: str) -> int:
    """Return the first number of Open MPI's version. NotFoundError: it is another MPI's mpirun."""
    try:
        done = subprocess.run(
            [mpirun, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise LauncherError(f"{mpirun} --version: {error}") from None
    text = done.stdout.decode(errors="replace")
    match = re.search(r"\(Open MPI\) (\d+)\.|Open MPI v?(\d+)\.", text)
    if not match:
        first = (text.strip().splitlines() or ["nothing"])[0]
        raise NotFoundError(f"{mpirun} is not Open MPI's (it says {first!r:.80}); {INSTALL}")
    return int(match.group(1) or match.group(2))


def _root_is_allowed(config: JobConfig, environ: Mapping[str, str]) -> bool:
    said = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    return config.run_as_root or all(environ.get(name) == "1" for name in said)


def _networks_are_given(environ: Mapping[str, str]) -> bool:
    return any(re.fullmatch(r"(OMPI|PRTE)_MCA_\w*if_(include|exclude)", name) for name in environ)


_LOST = (  # mpirun's words (4.1), and the host in them
    r"Remote daemon\s*: \S+ on node ([\w.-]+)",
    r"on node (\S+) exited on signal",
)
_REFUSED = (  # the remote shell's words, and the host in them
    r"ssh: connect to host (\S+) port \d+: (.*)",
    r"ssh: Could not resolve hostname (\S+): (.*)",
    r"(?:\w+@)?([\w.-]+): (Permission denied .*)",
    r"No \S+ host key is known for (\S+) and (you have requested strict checking)",
    r"(Host key verification failed)(.*)",
)
_MEANINGS = (
    (r"Executable: (\S+)\s*\nNode: (\S+)", "{1} has no {0}; install npu-launch at one path on all hosts"),
    (r"not available in the allocation|do not satisfy", "a host is not in this job's allocation"),
    (
        r"orted: (?:command )?not found|orted: No such file",
        "a host lacks Open MPI (orted is not in its PATH)",
    ),
    (
        r"lack of common network interfaces|unable to reliably start",
        "a host's daemon did not start, or found no way back",
    ),
    (
        r"none of the .*interfaces.*(?:if_include|found)|No network interfaces were found",
        "interfaces: none of them is there",
    ),
)


def explain(code: int, words: str) -> EngineEnd:
    """Say what mpirun's exit code and words mean; "" for what the agents tell better themselves."""
    plain = re.sub(r"\[[^\[\]\n]{1,80},\d+\]<std(?:out|err)>: ?", "", words)
    for pattern in _REFUSED:
        match = re.search(pattern, plain)
        if match:
            host, reason = match.group(1), match.group(2).strip()
            return EngineEnd(code, f"mpirun: {host}: {reason}" if reason else f"mpirun: {host}", (host,))
    lost: list[str] = []
    for pattern in _LOST:
        lost += [name for name in re.findall(pattern, plain) if name not in lost]
    if lost:
        return EngineEnd(code, f"mpirun: lost {', '.join(lost)}", tuple(lost))
    for pattern, meaning in _MEANINGS:
        match = re.search(pattern, plain)
        if match:
            return EngineEnd(code, "mpirun: " + meaning.format(*match.groups()))
    if code == -signal.SIGKILL:
        return EngineEnd(code, "mpirun was killed by SIGKILL")
    return EngineEnd(code)
