"""The clocks of hosts against the head's: of several round trips the shortest counts.

A `pong` carries the agent's monotonic and wall clock; it was made between the sending of `ping` and the
arrival, so its time is that of their middle, and off by half of the round trip at most.
"""

from __future__ import annotations

from typing import NamedTuple

ROUNDS = 10
MOST_OFF = 1_000_000_000  # ns of an offset that is no news


class Offset(NamedTuple):
    """What a host's clocks are ahead of the head's, in ns; error: of both, at most."""

    monotonic: int = 0
    wall: int = 0
    error: int = 1 << 62


def measured(sent: tuple[int, int], came: tuple[int, int], pong: tuple[int, int]) -> Offset:
    """Compute the offset of one round trip; each time is (monotonic, wall) in ns, the pong's the host's."""
    error = (came[0] - sent[0]) // 2
    middle = sent[0] + error
    return Offset(pong[0] - middle, pong[1] - (sent[1] + error), error)


def better(one: Offset, other: Offset) -> Offset:
    """Return the one with the smaller error."""
    return min(one, other, key=lambda offset: offset.error)
