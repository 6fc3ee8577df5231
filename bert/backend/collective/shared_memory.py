"""All-reduce between the ranks of one host through anonymous shared memory, without a port.

Each rank has two slots and a counter that it alone writes, so no lock is needed: a rank announces barrier n
by writing n, and waits until all counters are at least n. Sums are taken in rank order, so every rank gets
the same bits.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from bert.backend.collective import futex, rendezvous
from bert.backend.collective.rendezvous import CollectiveError

if TYPE_CHECKING:
    from bert.interfaces import Collective

__all__ = ["MAX_RANKS", "Alone", "CollectiveError", "SharedMemory", "connect"]
MAX_RANKS = 64
_LINE = 64  # bytes; also the alignment with which TensorFlow takes arrays over without a copy
_HEADER = mmap.PAGESIZE  # a cache line for each rank's counter
_MOST, _LEAST = 1 << 20, 1 << 16  # bytes of a slot: a chunk stays in the cache between its uses
_WRAP = 1 << 32  # counters start again from 0
_SPINS = 20
_CHECK = 0.1  # seconds between two checks of the clock


class SharedMemory:
    """The ranks of a run on one host. CollectiveError after `timeout` seconds without a peer."""

    def __init__(self, name: str, rank: int, size: int, timeout: float = 600.0) -> None:
        if not 1 <= size <= MAX_RANKS:
            raise ValueError(f"{size} ranks: shared memory connects 1 to {MAX_RANKS}")
        self.rank, self.size, self.timeout = rank, size, timeout
        if rank == 0:
            length = _HEADER + 2 * (size + 1) * _slot_bytes(size)
            handle = rendezvous.share(name, size, length, timeout)
        else:
            handle, length = rendezvous.join(name, rank, timeout)
        self._map = mmap.mmap(handle, length)
        os.close(handle)
        self.slot_bytes = (length - _HEADER) // (2 * (size + 1))
        self._arrived = np.frombuffer(self._map, np.uint32, MAX_RANKS * _LINE // 4)[:: _LINE // 4][:size]
        self._count = self._turn = 0
        # Two of each: a rank fills one while the others may still read the other.
        self._slots = [[self._bytes(2 * owner + half) for owner in range(size)] for half in (0, 1)]
        self._results = [self._bytes(2 * size + half) for half in (0, 1)]
        self.barrier()

    def _bytes(self, index: int) -> np.ndarray:
        return np.frombuffer(self._map, np.uint8, self.slot_bytes, _HEADER + index * self.slot_bytes)

    def barrier(self) -> None:
        """Wait for all ranks. CollectiveError names those that did not arrive."""
        self._count = (self._count + 1) % _WRAP
        self._arrived[self.rank] = self._count
        futex.wake(futex.address_of(self._arrived, self.rank))
        end = time.monotonic() + self.timeout
        for peer in range(self.size):
            self._wait_for(peer, end)

    def _wait_for(self, peer: int, end: float) -> None:
        spins = 0
        while self._behind(peer):
            spins += 1
            if spins <= _SPINS:
                time.sleep(0)  # ranks may outnumber cores: the peer may need this one
                continue
            seen = int(self._arrived[peer])
            if self._is_behind(seen):
                futex.wait(futex.address_of(self._arrived, peer), seen, _CHECK)
            if time.monotonic() > end:
                missing = {other for other in range(self.size) if self._behind(other)}
                if missing:
                    raise CollectiveError(rendezvous.missing_ranks(missing, self.timeout))

    def _behind(self, peer: int) -> bool:
        return self._is_behind(int(self._arrived[peer]))

    def _is_behind(self, seen: int) -> bool:
        return 0 < (self._count - seen) % _WRAP < _WRAP // 2

    def all_reduce_sum(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sum arrays of one dtype over the ranks, element by element, into new ones."""
        sums, out = _aligned(arrays)
        layout = _Layout([np.ascontiguousarray(array).reshape(-1) for array in arrays], out)
        step = self.slot_bytes // out.itemsize
        previous = None
        for start in range(0, out.size, step):
            chunk = slice(start, min(start + step, out.size))
            self._fill(layout, chunk)
            self.barrier()  # all have filled, and all have summed the previous chunk
            if previous is not None:
                self._copy_out(out, previous, self._turn - 1)
            self._sum(out, chunk)
            previous, self._turn = chunk, self._turn + 1
        if previous is not None:
            self.barrier()
            self._copy_out(out, previous, self._turn - 1)
        return sums

    def _fill(self, layout: _Layout, chunk: slice) -> None:
        slot = self._slots[self._turn % 2][self.rank]
        layout.copy_to(slot.view(layout.dtype), chunk.start, chunk.stop)

    def _sum(self, out: np.ndarray, chunk: slice) -> None:
        """Sum this rank's share of a chunk into the common result."""
        length = chunk.stop - chunk.start
        each = -(-length // self.size)
        mine = slice(min(self.rank * each, length), min((self.rank + 1) * each, length))
        total = self._results[self._turn % 2].view(out.dtype)[mine]
        parts = [slot.view(out.dtype)[mine] for slot in self._slots[self._turn % 2]]
        if self.size == 1:
            total[:] = parts[0]
            return
        with np.errstate(all="ignore"):  # the trainer checks for overflow itself; gaps may hold anything
            np.add(parts[0], parts[1], out=total)
            for more in parts[2:]:
                np.add(total, more, out=total)

    def _copy_out(self, out: np.ndarray, chunk: slice, turn: int) -> None:
        out[chunk] = self._results[turn % 2].view(out.dtype)[: chunk.stop - chunk.start]

    def all_gather(self, value: Any) -> list[Any]:
        """Collect a JSON value of every rank, in rank order. ValueError: longer than slot_bytes - 8 bytes."""
        data = np.frombuffer(json.dumps(value).encode(), np.uint8)
        if len(data) > self.slot_bytes - 8:
            raise ValueError(f"{len(data)} bytes: all_gather takes at most {self.slot_bytes - 8}")
        slots, self._turn = self._slots[self._turn % 2], self._turn + 1
        slots[self.rank][:8].view(np.int64)[0] = len(data)
        slots[self.rank][8 : 8 + len(data)] = data
        self.barrier()
        values = [_read(slot) for slot in slots]
        self.barrier()
        return values

    def all_gather_rows(self, rows: np.ndarray) -> np.ndarray:
        """Concatenate the rows [n, ...] of all ranks in rank order; n may differ between ranks and be 0."""
        mine = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        lengths = self.all_gather(mine.size)
        starts = np.cumsum([0, *lengths])
        out = np.empty(starts[-1], np.uint8)
        for done in range(0, max(lengths), self.slot_bytes):
            slots, self._turn = self._slots[self._turn % 2], self._turn + 1
            part = mine[done : done + self.slot_bytes]
            slots[self.rank][: part.size] = part
            self.barrier()
            for slot, start, length in zip(slots, starts, lengths):
                size = min(max(length - done, 0), self.slot_bytes)
                out[start + done : start + done + size] = slot[:size]
        joined: np.ndarray = out.view(rows.dtype).reshape(-1, *rows.shape[1:])
        return joined


def _read(slot: np.ndarray) -> Any:
    return json.loads(slot[8 : 8 + int(slot[:8].view(np.int64)[0])].tobytes().decode())


def _slot_bytes(size: int) -> int:
    """Choose the length of a slot: shorter where /dev/shm is small, as in a container."""
    fits = rendezvous.free_bytes() // 2 // (2 * (size + 1)) // mmap.PAGESIZE * mmap.PAGESIZE
    return max(min(_MOST, fits), _LEAST)


def _aligned(arrays: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Allocate an array for each of `arrays`, and return also the flat one that they are aligned views of."""
    dtype = arrays[0].dtype
    if any(array.dtype != dtype for array in arrays):
        raise ValueError(f"one all-reduce takes one dtype, not {sorted({str(a.dtype) for a in arrays})}")
    starts = _aligned_starts(arrays, dtype.itemsize)
    room = np.empty(int(starts[-1]) * dtype.itemsize + _LINE, np.uint8)
    first = -room.ctypes.data % _LINE
    flat = room[first : first + int(starts[-1]) * dtype.itemsize].view(dtype)
    return [flat[s : s + a.size].reshape(a.shape) for s, a in zip(starts, arrays)], flat


def _aligned_starts(arrays: Sequence[np.ndarray], itemsize: int) -> np.ndarray:
    """Compute where each array begins in a flat one, in elements, and where the last one's place ends."""
    whole = _LINE // itemsize
    return np.cumsum([0] + [-(-array.size // whole) * whole for array in arrays])


class _Layout:
    """The content of a flat array, read from its sources at their aligned places without building it."""

    def __init__(self, sources: Sequence[np.ndarray], flat: np.ndarray) -> None:
        self.dtype = flat.dtype
        self._sources = sources
        self._starts = _aligned_starts(sources, flat.itemsize)

    def copy_to(self, target: np.ndarray, start: int, stop: int) -> None:
        """Copy the elements from start to stop; gaps between sources are left as they are."""
        index = int(np.searchsorted(self._starts, start, "right")) - 1
        while index < len(self._sources) and self._starts[index] < stop:
            source, offset = self._sources[index], int(self._starts[index])
            part = source[max(start - offset, 0) : stop - offset]
            at = max(offset - start, 0)
            target[at : at + part.size] = part
            index += 1


class Alone:
    """The collective of a single rank."""

    def barrier(self) -> None:
        """Return at once."""

    def all_reduce_sum(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the arrays."""
        return list(arrays)

    def all_gather(self, value: Any) -> list[Any]:
        """Return the only value."""
        return [value]

    def all_gather_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows."""
        return rows


def connect(name: str, rank: int, size: int, timeout: float = 600.0) -> Collective:
    """Connect `size` ranks."""
    return SharedMemory(name, rank, size, timeout) if size > 1 else Alone()
