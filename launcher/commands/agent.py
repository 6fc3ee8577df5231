"""`npu-launch agent`: this host's part of a run on several hosts; an engine starts it, not a person."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from launcher.hosts.agent import INDEXES, index_of, name_of, on_stdio, run_agent


@click.command(hidden=True)
@click.option("--folder", metavar="DIR", default="", help="Meet the head in a folder that all hosts see.")
@click.option("--index", type=int, default=-1, help="Number of this host; default: the engine's.")
@click.option("--engine", default="", type=click.Choice(list(INDEXES)), help="What has started it.")
def agent(folder: str, index: int, engine: str) -> None:
    """Start and supervise this host's ranks for a head elsewhere; an engine runs it on each host."""
    if not folder:
        sys.exit(on_stdio(os.environ, index, engine))
    from launcher.hosts.folder_channel import FolderAgentChannel

    channel = FolderAgentChannel(Path(folder), index_of(os.environ, index))
    sys.exit(run_agent(channel, name_of(os.environ), os.environ))
