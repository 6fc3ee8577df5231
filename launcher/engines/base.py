"""What an engine is: the program of a site that starts one agent on each host of an allocation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Mapping, Sequence

from launcher.hosts.transport import EngineEnd


@dataclass(frozen=True)
class Allocation:
    """The hosts that an engine gives, in the order of their ranks. job_id: the engine's, "" for none."""

    engine: str
    hosts: tuple[str, ...]
    job_id: str = ""
    devices: tuple[str, ...] = ()  # of each host, as `devices:` has them; () where the engine does not say


class Engine(ABC):
    """An engine whose program is a child of the head: its stdio carries the frames."""

    name = ""
    agent_options: tuple[str, ...] = ()  # --engine=NAME: whose variables tell an agent which host it is on
    line = 1000  # bytes of a line that it passes on whole
    reaches_own_children = True  # its standard input goes to the agent that it starts on the head's host, too
    # What follows the rank's name where that stands before each piece of its output (TaggedDecoder in
    # launcher.hosts.frames); None where it does not.
    after_tag: bytes | None = None

    @abstractmethod
    def allocation(self) -> Allocation:
        """Return the hosts. UsageError, PreflightError: they are not to be had."""

    @abstractmethod
    def argv(self, agent: Sequence[str], hosts: Sequence[str]) -> list[str]:
        """Return the command that starts the agent on each of these hosts; pure: --dry-run prints it."""

    def environ(self, outer: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of that command."""
        return dict(outer)

    @abstractmethod
    def stop(self, pid: int) -> None:
        """Ask the agents to end through the engine, where frames do not reach them; never waits long."""

    def orphaned(self, pid: int) -> None:
        """Ask the agents to end whose program was killed: `pid` was its own, and may be another's now."""
        del pid  # most engines miss their program themselves

    @abstractmethod
    def explain(self, code: int, words: str) -> EngineEnd:
        """Say what an exit code and the engine's own words mean."""

    def exited(self, words: str) -> tuple[str, ...]:
        """Name the hosts whose agents have ended, as some of the engine's own words have it."""
        return ()
