"""`npu-launch agent`: this host's part of a run on several hosts; an engine starts it, not a person."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Mapping

import click

from launcher.errors import UsageError

# Variables of the engines: this process among the hosts, and the host's name there.
INDEXES = ("NPU_LAUNCH_HOST_INDEX", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
NAMES = ("NPU_LAUNCH_HOST_NAME", "SLURMD_NODENAME", "PMIX_HOSTNAME")


@click.command(hidden=True)
@click.option("--folder", metavar="DIR", default="", help="Meet the head in a folder that all hosts see.")
@click.option("--index", type=int, default=-1, help="Number of this host; default: the engine's.")
def agent(folder: str, index: int) -> None:
    """Start and supervise this host's ranks for a head elsewhere; an engine runs it on each host."""
    from launcher.hosts.agent import run_agent
    from launcher.hosts.channel import AgentChannel, StdioChannel

    number = index if index >= 0 else index_of(os.environ)
    channel: AgentChannel
    if folder:
        from launcher.hosts.folder_channel import FolderAgentChannel

        channel = FolderAgentChannel(Path(folder), number)
    elif os.isatty(0):
        raise UsageError("agent: an engine starts it on each host; see docs/several-hosts.md")
    else:
        channel = StdioChannel(number)
    sys.exit(run_agent(channel, name_of(os.environ), os.environ))


def index_of(environ: Mapping[str, str]) -> int:
    """Return the number of this host among those of the engine's step. UsageError: no engine says it."""
    for variable in INDEXES:
        if environ.get(variable, "").isdigit():
            return int(environ[variable])
    raise UsageError(f"agent: none of {', '.join(INDEXES)} is set (expected the number of this host)")


def name_of(environ: Mapping[str, str]) -> str:
    """Return the host's name in the engine, else the kernel's."""
    return next((environ[name] for name in NAMES if environ.get(name)), os.uname().nodename)
