"""Show the logs of a run: merged by time, filtered, followed."""

from __future__ import annotations

import time
from typing import Callable, Iterator, Sequence

from launcher import run_logs, runs
from launcher.log_pieces import Block, merge
from launcher.run_dir import RunDir
from launcher.run_logs import RankReader

POLL = 0.1  # seconds between looks for new lines
SETTLED = 50000000  # ns: a chunk is in its index long before it is this old

Write = Callable[[bytes], object]


def merged(run: RunDir, ranks: Sequence[int]) -> Iterator[Block]:
    """Merge the lines that are there now."""
    return merge([_whole(RankReader(run, rank)) for rank in ranks])


def _whole(reader: RankReader) -> Iterator[Block]:
    yield from reader.blocks()
    yield reader.finish()
    reader.close()


def follow(run: RunDir, wanted: Sequence[int]) -> Iterator[Block]:
    """Merge what is there and what comes, until the run has ended.

    The launcher stamps chunks in one thread and stores each at once, so that everything older than SETTLED is
    there when it is looked for, and the order holds over the ranks.
    """
    readers = {rank: RankReader(run, rank) for rank in run_logs.choose(run, wanted)}
    waiting: Block = []
    while True:
        ended = not runs.running(run)
        horizon = time.time_ns() - SETTLED
        for rank in run_logs.choose(run, wanted):  # ranks of a run that has just begun come one by one
            readers.setdefault(rank, RankReader(run, rank))
        for block in merge([reader.blocks() for reader in readers.values()]):
            waiting += block
            ready = [piece for piece in waiting if piece[0] <= horizon]
            if ready:
                waiting = waiting[len(ready) :]
                yield ready
        if ended:
            yield waiting
            yield from merge([iter([reader.finish()]) for reader in readers.values()])
            return
        time.sleep(POLL)
