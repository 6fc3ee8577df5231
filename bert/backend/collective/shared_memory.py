"""All-reduce between the ranks of one host through one mapped file in /dev/shm; no socket.

Each rank has a slot of SLOT_BYTES and a row of counters that it alone writes, so no lock is needed: a
rank says "arrived at n" by writing n, and waits until all rows say at least n. Sums are taken in rank
order, so every rank gets the same bits. The file's name lives only until all ranks have mapped it.
"""

from __future__ import annotations

import json
import mmap
import os
import tempfile
import time
from typing import Any, List, Sequence

import numpy as np

SLOT_BYTES = 4 << 20
MAX_RANKS = 64
_HEADER = MAX_RANKS * 64  # a cache line for each rank's counter
_FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()  # noqa: S108


class CollectiveError(RuntimeError):
    """Say which ranks did not come."""


class SharedMemory:
    """Connect the ranks of a run. CollectiveError after `timeout` seconds without a peer."""

    def __init__(self, name: str, rank: int, size: int, timeout: float = 600.0) -> None:
        if not 1 <= size <= MAX_RANKS:
            raise ValueError("%d ranks; shared memory connects 1 to %d" % (size, MAX_RANKS))
        self.rank, self.size, self.timeout = rank, size, timeout
        self._count = 0
        self._path = os.path.join(_FOLDER, "npu-launch-%s" % name)
        self._map = self._open(_HEADER + (size + 1) * SLOT_BYTES)
        self._arrived = np.frombuffer(self._map, np.int64, MAX_RANKS * 8)[::8]
        self._slots = [self._bytes(index) for index in range(size)]
        self._result = self._bytes(size)
        self.barrier()
        if rank == 0:
            os.unlink(self._path)

    def _open(self, length: int) -> mmap.mmap:
        if self.rank == 0:
            handle = os.open(self._path + ".new", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.ftruncate(handle, length)
            os.rename(self._path + ".new", self._path)
        else:
            handle = self._wait_for_file()
        try:
            return mmap.mmap(handle, length)
        finally:
            os.close(handle)

    def _wait_for_file(self) -> int:
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            try:
                return os.open(self._path, os.O_RDWR)
            except FileNotFoundError:
                time.sleep(0.01)
        raise CollectiveError("rank 0 did not come within %g s" % self.timeout)

    def _bytes(self, slot: int) -> Any:
        return np.frombuffer(self._map, np.uint8, SLOT_BYTES, _HEADER + slot * SLOT_BYTES)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self._count += 1
        self._arrived[self.rank] = self._count
        start, turns = time.monotonic(), 0
        while (self._arrived[: self.size] < self._count).any():
            turns += 1
            # Ranks may outnumber cores: give the core away rather than spin.
            time.sleep(0 if turns < 20 else 0.0002)
            if turns % 512 == 0 and time.monotonic() - start > self.timeout:
                missing = np.flatnonzero(self._arrived[: self.size] < self._count)
                raise CollectiveError(
                    "rank %s did not come within %g s" % (", ".join(map(str, missing)), self.timeout)
                )

    def all_reduce_sum(self, values: np.ndarray) -> np.ndarray:
        """Sum an array over the ranks, element by element."""
        flat = np.ascontiguousarray(values).reshape(-1)
        out = np.empty_like(flat)
        step = SLOT_BYTES // flat.itemsize
        for start in range(0, len(flat), step):
            self._reduce(flat[start : start + step], out[start : start + step])
        return out.reshape(values.shape)

    def _reduce(self, part: np.ndarray, out: np.ndarray) -> None:
        views = [slot[: part.nbytes].view(part.dtype) for slot in self._slots]
        result = self._result[: part.nbytes].view(part.dtype)
        views[self.rank][:] = part
        self.barrier()
        each = -(-len(part) // self.size)
        mine = slice(self.rank * each, (self.rank + 1) * each)
        total = result[mine]
        total[:] = views[0][mine]
        for view in views[1:]:
            total += view[mine]
        self.barrier()
        out[:] = result
        # No third barrier: a slot is written again only after this rank's copy, and the result only
        # after the next first barrier, which every rank reaches after its copy.

    def all_gather(self, value: Any) -> List[Any]:
        """Collect a JSON value of every rank, in rank order; at most SLOT_BYTES - 8 bytes each."""
        data = json.dumps(value).encode()
        slot = self._slots[self.rank]
        slot[:8].view(np.int64)[0] = len(data)
        slot[8 : 8 + len(data)] = np.frombuffer(data, np.uint8)
        self.barrier()
        values = []
        for other in self._slots:
            length = int(other[:8].view(np.int64)[0])
            values.append(json.loads(other[8 : 8 + length].tobytes().decode()))
        self.barrier()
        return values


class Alone:
    """Be the collective of one rank."""

    def barrier(self) -> None:
        """Wait for nobody."""

    def all_reduce_sum(self, values: np.ndarray) -> np.ndarray:
        """Give the values back."""
        return values

    def all_gather(self, value: Any) -> List[Any]:
        """Give the only value."""
        return [value]


def connect(name: str, rank: int, size: int, timeout: float = 600.0) -> Any:
    """Give the collective of `size` ranks."""
    return SharedMemory(name, rank, size, timeout) if size > 1 else Alone()


def concatenate(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Put arrays into one flat one."""
    return np.concatenate([array.reshape(-1) for array in arrays])
