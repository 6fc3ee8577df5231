"""The agent of a host: one attempt of this host's ranks, for a head elsewhere.

hello ─► (ping, probe) ─► order ─► ready ─► start ─► the attempt ─► end, sent ─► (fetch) ─► done ─► bye

It ends its ranks, with grace, when the head says so, when the head is silent for the lease, or when what
started the agent has gone.
"""

from __future__ import annotations

import os
from typing import Any, Mapping

from launcher import __version__
from launcher.checks.host_facts import collect
from launcher.errors import LauncherError, UsageError, describe
from launcher.hosts.channel import AgentChannel, StdioChannel
from launcher.hosts.conversation import Agent, Ended
from launcher.output import echo
from launcher.process.signals import Signals

# Variables of each engine: this process among the hosts, and the host's name there. Those of others may be
# of a job around it: mpirun within Slurm passes on SLURM_PROCID and SLURMD_NODENAME of its own host.
INDEXES = {"": "NPU_LAUNCH_HOST_INDEX", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK"}
NAMES = {"": "NPU_LAUNCH_HOST_NAME", "slurm": "SLURMD_NODENAME", "mpi": "PMIX_HOSTNAME"}


def on_stdio(environ: Mapping[str, str], index: int = -1, engine: str = "") -> int:
    """Be the agent that an engine has started; return its exit code. UsageError: a person has."""
    if os.isatty(0):
        raise UsageError("agent: an engine starts it on each host; see docs/several-hosts.md")
    return run_agent(StdioChannel(index_of(environ, index, engine)), name_of(environ, engine), environ)


def index_of(environ: Mapping[str, str], given: int = -1, engine: str = "") -> int:
    """Return the number of this host among those of the engine's step. UsageError: the engine is silent."""
    if given >= 0:
        return given
    variable = INDEXES.get(engine, "")
    if not environ.get(variable, "").isdigit():
        raise UsageError(f"agent: {variable or engine} is not set (expected the number of this host)")
    return int(environ[variable])


def name_of(environ: Mapping[str, str], engine: str = "") -> str:
    """Return the host's name in the engine, else the kernel's."""
    return environ.get(NAMES.get(engine, "")) or os.uname().nodename


def run_agent(channel: AgentChannel, name: str, environ: Mapping[str, str]) -> int:
    """Be the agent of this host for one attempt; return its exit code."""
    agent = Agent(channel, name, environ)
    with Signals() as signals:
        try:
            code = _course(agent, signals)
        except Ended as end:
            code = end.code
        except LauncherError as error:
            code = error.exit_code
            channel.send("refused", {"code": code, "lines": list(error.lines)})
        except Exception as error:
            import traceback

            echo(*traceback.format_exc().splitlines(), err=True)
            code = LauncherError.exit_code
            channel.send("refused", {"code": code, "lines": [f"its agent failed: {describe(error)}"]})
        channel.send("bye", {"code": code})
        agent.flush(2.0)
    return code


def _course(agent: Agent, signals: Signals) -> int:
    facts = collect(agent.index, agent.name, agent.environ)
    agent.channel.send("hello", {"version": __version__, "facts": facts.to_json()})
    agent.channel.turn()
    from launcher.hosts.part import take_part  # most of the launcher, while the head hears of the others

    return take_part(agent, signals, facts, _order(agent, signals))


def _order(agent: Agent, signals: Signals) -> Any:
    """Answer about the disk until the order comes."""
    from launcher.hosts.probe import sees

    while True:
        kind, body = agent.wait_for(signals, "probe", "order", "done")
        if kind == "done":
            raise Ended(0)
        if kind == "order":
            return body
        agent.channel.send("probed", {"seen": sees(body)})
