"""Merge the ranks' logits through files, checked for completeness.

Each rank writes the logits of its features, its shard, into one folder; after a barrier one rank merges them.
A shard carries a fingerprint of the features, so that one left over from another file or run is never merged.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from squad.errors import DataError

if TYPE_CHECKING:
    from bert.interfaces import Logits
    from squad.data.features import Features

_SHOWN = 5  # features named in a message


def fingerprint(features: Features) -> str:
    """Hash what the logits were computed from: the rows' tokens, in their order."""
    digest = hashlib.sha256(str(features.input_ids.shape).encode())
    digest.update(np.ascontiguousarray(features.input_ids, "<i4").data)
    return digest.hexdigest()


def shard_path(folder: str, rank: int, size: int) -> str:
    """Name the file of one rank's shard."""
    return os.path.join(folder, f"logits_{rank}_of_{size}.npz")


def encode(features: Features, start_logits: np.ndarray, end_logits: np.ndarray, done: np.ndarray) -> bytes:
    """Make a shard of the rows of logits [R, L] that are `done` [R]."""
    rows = np.flatnonzero(done)
    stream = io.BytesIO()
    np.savez(
        stream,
        rows=rows,
        start_logits=start_logits[rows],
        end_logits=end_logits[rows],
        fingerprint=fingerprint(features),
    )
    return stream.getvalue()


def write_shard(folder: str, rank: int, size: int, shard: bytes) -> str:
    """Write a shard completely or not at all; return the path."""
    path = shard_path(folder, rank, size)
    with open(path + ".tmp", "wb") as stream:
        stream.write(shard)
    os.replace(path + ".tmp", path)
    return path


def merge(folder: str, size: int, features: Features) -> Logits:
    """Merge the shards of all ranks: (start [R, L], end [R, L]); the shards are removed.

    Raises:
        DataError: a shard is missing, damaged or of other features; rows are missing or present twice.
    """
    shape = features.input_ids.shape
    start, end = np.empty(shape, np.float32), np.empty(shape, np.float32)
    times = np.zeros(shape[0], np.int64)
    expected = fingerprint(features)
    for rank in range(size):
        shard = _read(shard_path(folder, rank, size))
        if str(shard["fingerprint"]) != expected:
            raise DataError(f"{shard_path(folder, rank, size)}: made from other features; predict again")
        start[shard["rows"]], end[shard["rows"]] = shard["start_logits"], shard["end_logits"]
        times[shard["rows"]] += 1
    for problem, wrong in (("no rank has predicted", times == 0), ("two ranks have predicted", times > 1)):
        if wrong.any():
            shown = ", ".join(map(str, np.flatnonzero(wrong)[:_SHOWN]))
            raise DataError(f"{problem} {wrong.sum()} of {len(times)} features: {shown}")
    for rank in range(size):
        os.unlink(shard_path(folder, rank, size))
    return start, end


def _read(path: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("rows", "start_logits", "end_logits", "fingerprint")}
    except FileNotFoundError:
        raise DataError(f"{path}: missing; this rank has written no predictions, see its log") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged: {error}; predict again") from None
