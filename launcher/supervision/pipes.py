"""The pipes of an attempt's ranks, read in its selector as they are written."""

from __future__ import annotations

import os
import selectors

from launcher.supervision.capture import Reader
from launcher.supervision.rank import RankProcess

_CHUNKS = 8  # that a pipe may hold when its rank has ended


class Pipes:
    """What the ranks write, on its way to their logs; the keys of its descriptors carry (rank, stream)."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector, self._reader = selector, Reader()
        self._open: set[int] = set()

    def __bool__(self) -> bool:
        """Tell whether any process still holds one open."""
        return bool(self._open)

    def add(self, rank: RankProcess) -> None:
        """Read what a rank that has begun writes."""
        if rank.child is not None:
            for stream, descriptor in (("o", rank.child.stdout), ("e", rank.child.stderr)):
                self._selector.register(descriptor, selectors.EVENT_READ, (rank, stream))
                self._open.add(descriptor)

    def receive(self, timeout: float) -> bool:
        """Read what the ranks write within some seconds; return whether they did."""
        ready = [key for key, _ in self._selector.select(timeout) if key.data is not None]
        for key in ready:
            self.read(key)
        return bool(ready)

    def read(self, key: selectors.SelectorKey) -> bool:
        """Read a chunk; return whether there was one."""
        data = self._reader.read(key.fd)
        if data is None:
            return False
        rank, stream = key.data
        if len(data) == 0:
            self._close(key.fd)
        elif rank.log is not None:
            rank.log.feed(stream, data)
        return len(data) > 0

    def read_rest(self, rank: RankProcess) -> None:
        """Read what a rank that has ended left in its pipes: its last words decide who failed."""
        for key in list(self._selector.get_map().values()):
            if key.data is not None and key.data[0] is rank:
                for _ in range(_CHUNKS):  # a process that it left behind may write for ever
                    if not self.read(key):
                        break

    def close(self) -> None:
        """Close what is still open."""
        for descriptor in list(self._open):
            self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        self._selector.unregister(descriptor)
        os.close(descriptor)
