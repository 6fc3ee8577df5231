"""A run on hosts that came up by themselves: the head on host 0, an agent on each."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Callable, Sequence

from launcher.config.job import JobConfig, Provenance
from launcher.engines.base import Allocation
from launcher.engines.meeting import Meeting
from launcher.engines.pull import Member
from launcher.engines.several import Site, plan, run
from launcher.errors import LauncherError, UsageError
from launcher.hosts.transport import HeadTransport
from launcher.plan.model import Plan
from launcher.plan.planner import launch_dir
from launcher.process.init import with_init


class PullSite(Site):
    """Hosts that wait in a meeting for the head's word."""

    def __init__(self, member: Member, meeting: Meeting) -> None:
        self.allocation = Allocation(member.engine, member.names, member.job_id, _devices(member))
        self._meeting = meeting

    def command(self) -> list[str]:
        """Return no command: they come by themselves."""
        return []

    def start(self) -> HeadTransport:
        return self._meeting.connect()


def _devices(member: Member) -> tuple[str, ...]:
    """Return the NPUs of each node of Slurm; () where nobody says them."""
    if member.engine != "slurm":
        return ()
    from launcher.engines.slurm import devices_of

    return devices_of(member.names, member.job_id, os.environ)


def run_member(
    member: Member,
    config: JobConfig,
    source: Provenance,
    command: Sequence[str],
    show: Callable[[Plan, list[str]], None] | None = None,
) -> int:
    """Do this host's part of a run; return the exit code, which is that of the head on every host.

    show: prints the plan instead, on host 0 (--dry-run).

    Raises:
        UsageError, PreflightError, LauncherError: as on one host; the other hosts end with the same code.
    """
    return with_init(lambda: _run(member, settled(member, config, source), source, command, show))


def _run(
    member: Member,
    config: JobConfig,
    source: Provenance,
    command: Sequence[str],
    show: Callable[[Plan, list[str]], None] | None,
) -> int:
    place = Path(launch_dir(), os.path.expanduser(config.runs_dir)) / f".meeting-{member.key}"
    own_names = member.names if member.engine != "mpi" else [""] * len(member.names)
    meeting = Meeting(place, member.index, own_names, config.lease, config.host_timeout)
    if member.index:
        return meeting.follow()
    site = PullSite(member, meeting)
    code = LauncherError.exit_code
    with meeting.alive():
        try:
            if show is None:
                code = run(config, source, command, site)
            else:
                show(*plan(config, source, command, site))
                code = 0
        except LauncherError as error:
            code = error.exit_code
            raise
        finally:
            meeting.over(code)
    return code


def settled(member: Member, config: JobConfig, source: Provenance) -> JobConfig:
    """Fit the job to where it runs. In pods the cluster chooses the NPUs, `devices` being their number."""
    if config.stdin_rank >= 0:
        raise UsageError("stdin_rank: not possible where hosts come up by themselves; leave it out")
    if member.engine == "kubernetes":
        source.written.discard("devices")
    return replace(config, run_id=config.run_id or member.run_id)
