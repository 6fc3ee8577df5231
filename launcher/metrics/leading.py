"""The rank whose rows stand for the run: alerts, the page, `top` and `compare` go by the same one.

It is the first that writes a loss, which of a pipeline's stages the last one alone knows; where none does,
the first that writes a row.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import cycle, islice
from typing import Sequence

from launcher.errors import ReadError
from launcher.metrics import series
from launcher.metrics.appended import Appended
from launcher.run_dir import RunDir

HEAD = 1 << 16  # bytes of a file that one look reads
MOST = 1024  # ranks that one look asks: on a disk over the network each takes its time


class Leader:
    """The search for the leading rank, look after look; each byte is read once, and none after a loss.

    rank: the one that leads, None: none yet. settled: it has written a loss, so no other will.
    """

    def __init__(self, run: RunDir, ranks: Sequence[int], most: int = MOST) -> None:
        self._files = {rank: Appended(run.metrics(rank), HEAD) for rank in ranks}
        self._turn, self._count = cycle(ranks), min(len(ranks), most)
        self.rank: int | None = None
        self.settled = False

    def look(self) -> bool:
        """Look at what is new; tell whether another rank leads than before."""
        before = self.rank
        for rank in islice(self._turn, 0 if self.settled else self._count):
            rows = self._rows(rank)
            if self.rank is None and rows:
                self.rank = rank
            if any("loss" in row for row in rows):
                self.rank, self.settled = rank, True
                break
        return self.rank != before

    def _rows(self, rank: int) -> list[dict[str, object]]:
        file = self._files[rank]
        with suppress(ReadError):  # whoever reads the rows names it
            lines = [line for line in file.lines() if self.rank is None or b'"loss"' in line]
            return [row for row in map(series.record, lines) if row is not None]
        file.skip()
        return []


def leading_rank(run: RunDir, ranks: Sequence[int]) -> int | None:
    """Return the rank that leads by what is there now; None: none has written a row."""
    leader = Leader(run, ranks, len(ranks))
    leader.look()
    return leader.rank
