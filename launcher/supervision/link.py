"""What ties the attempt on one of several hosts to the head of the run (launcher/hosts/agent.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Mapping, NamedTuple, Sequence

if TYPE_CHECKING:
    from launcher.diagnosis.failure import RankEnd
    from launcher.supervision.rank import RankProcess


class Wish(NamedTuple):
    """What the head asks for. kind: stop or kill (value: why), signal (its number), stacks, alone.

    `alone`: the ranks of all hosts have ended, so that nothing needs the scheduler any more.
    """

    kind: str
    value: str = ""


class Link(ABC):
    """The way to the head; nothing in it waits."""

    @property
    @abstractmethod
    def waits(self) -> Mapping[int, int]:
        """Descriptors that it waits for now, and for which event of `selectors`; none: turns alone tell."""

    @abstractmethod
    def take(self) -> Sequence[Wish]:
        """Return what the head asks for since the last call, or what its silence means."""

    @abstractmethod
    def turn(self, ranks: Sequence[RankProcess], now: float, sampled: float) -> float:
        """Tell the head of the ranks, send what waits; return the seconds until the next turn.

        now, sampled: on the clock of the ranks' times; when their use of processors was looked at last.
        """

    @abstractmethod
    def failed(self, end: RankEnd, victim: bool) -> None:
        """Tell the head of a rank that failed. victim: it seems to have waited for others only."""

    @abstractmethod
    def stacks(self, texts: Mapping[int, str]) -> None:
        """Answer the head's wish for the stacks of the ranks, by rank."""
