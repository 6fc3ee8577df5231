"""Cache training features in TFRecord files, so that later runs and other ranks need not build them again.

`train.tf_record` (or train.tf_record0, 1 ... if there are many rows) contains the records under the names
that NVIDIA's code and the original script use; `train.manifest.json` beside them says what they were made
from. A cache is used only if its key, the files' sizes and every record's checksum are right.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Callable, ContextManager, Iterator, Mapping, Sequence

import numpy as np

from bert.checkpoints.store import sha256
from bert.interfaces import Tensor
from squad.data import cache_lock, tf_example
from squad.data.features import Features
from squad.errors import DataError

NAME = "train.tf_record"
_FORMAT = 2  # of files and rows; raise it when the same questions give other rows
_ROWS = 20000  # rows of a file
_AT_ONCE = 256  # rows encoded at a time
_TOKENS = ("input_ids", "input_mask", "segment_ids")
_SINGLES = ("unique_ids", "start_positions", "end_positions", "is_impossible")
_KINDS: dict[str, type[np.generic]] = {
    **dict.fromkeys(_TOKENS + _SINGLES, np.int32),
    "input_mask": np.int8, "segment_ids": np.int8, "is_impossible": np.bool_,
}  # fmt: skip
Build = Callable[[], Features]
_PATTERN = r"train\.tf_record\d*$"
_DRAFT = f".{cache_lock.HOST}.tmp"  # of this host: locks of others do not reach every disk
_HEAD_START = 10.0  # seconds within which the first rank must begin before another one builds


class _Unusable(Exception):
    """A cache cannot be used, for this reason; never leaves this module."""


def _print(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class Cache:
    """A cache: its folder and what it must have been made from.

    Args:
        key: everything that determines the rows; see `cache_key`.
        reuse: use what an earlier run left; if False, only what this run (run_id) has built.
        first: whether this process is the one that should build.
    """

    folder: str
    key: Mapping[str, Any]
    reuse: bool = True
    run_id: str = ""
    first: bool = True
    say: Callable[[str], None] = field(default=_print)

    @property
    def manifest(self) -> str:
        """Path of the file that makes a cache valid and is written last."""
        return os.path.join(self.folder, "train.manifest.json")

    @property
    def lock(self) -> str:
        """Path of the file that the builder locks."""
        return os.path.join(self.folder, ".train.lock")


def cache_key(train_file: str, vocab_file: str, **parameters: Any) -> dict[str, Any]:
    """Build a key from the files' contents and the parameters (max_seq_length, doc_stride ...)."""
    files = {"train_file": sha256(train_file), "vocab_file": sha256(vocab_file)}
    return dict(parameters, format=_FORMAT, **files)


def load_or_build(cache: Cache, build: Build) -> Features:
    """Load the cached features, and build them first if necessary.

    One process builds, the others wait; if it dies, another one gets the lock. Every process reads the
    files, so all have the same rows. These have no token maps, example_index or doc_span_index.

    Raises:
        OSError: the folder cannot be written.
        DataError: what has just been written cannot be read back.
    """
    os.makedirs(cache.folder, exist_ok=True)
    found = _foreign(cache)
    if found is not None:
        return found
    for _ in range(3):
        manifest = _current(cache, build)
        try:
            return _load(cache, manifest)
        except _Unusable as error:
            reason = str(error)
            _discard(cache, manifest, reason)
    raise DataError(f"{cache.folder}: written, but cannot be read back: {reason}; check the disk")


def _manifest(cache: Cache) -> dict[str, Any]:
    """Read the manifest and compare it with the key and the files. _Unusable: why it does not fit."""
    manifest = _parse(cache)
    if manifest is None:
        raise _Unusable("none exists yet")
    try:
        key, run = manifest["key"], manifest["run"]
        sizes = [(os.path.basename(shard["name"]), shard["bytes"]) for shard in manifest["shards"]]
        for name in sorted(set(key) | set(cache.key)):
            if key.get(name) != cache.key.get(name):
                raise _Unusable(_difference(name, key.get(name), cache.key.get(name)))
    except (KeyError, TypeError, AttributeError):
        raise _Unusable("it is damaged or incomplete") from None
    if not cache.reuse and not (cache.run_id and run == cache.run_id):
        raise _Unusable("use_tfrecord is off")
    for name, size in sizes:
        held = _size(os.path.join(cache.folder, name))
        if held != size:
            raise _Unusable(f"{name} has {held} bytes instead of {size}")
    return dict(manifest)


def _parse(cache: Cache) -> Any | None:
    """Read the manifest: None if there is no file, an empty object if it is not JSON."""
    try:
        with open(cache.manifest, encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}


def _difference(name: str, made: Any, wanted: Any) -> str:
    if name.endswith("_file"):
        return f"{name} has changed"
    if name == "format":
        return "other code made it"
    return f"it was made with {name} {made} instead of {wanted}"


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _current(cache: Cache, build: Build) -> dict[str, Any]:
    """Return the manifest of a cache that fits, built by whichever process gets the lock."""
    try:
        return _manifest(cache)
    except _Unusable:
        if not cache.first:
            _let_first_begin(cache)
    with _locked(cache, " to build the cache of features") as waited_for:
        try:
            return _manifest(cache)
        except _Unusable as error:
            reason = str(error)
            if waited_for and not (_parse(cache) or {}).get("shards"):
                reason = f"{waited_for} died while building it"
            cache.say(f"{cache.folder}: building the cache of features: {reason}")
            return _write(cache, build)


def _discard(cache: Cache, manifest: Mapping[str, Any], reason: str) -> None:
    """Invalidate a cache found corrupt, unless another process has replaced it already."""
    with _locked(cache):
        held = _parse(cache)
        if isinstance(held, dict) and held.get("build") == manifest["build"]:
            cache.say(f"{cache.folder}: the cache of features is corrupt: {reason}")
            _replace(cache, {})


def _let_first_begin(cache: Cache) -> None:
    """Wait until another process builds or has built, or it takes too long."""
    deadline = time.monotonic() + _HEAD_START
    while time.monotonic() < deadline:
        if cache_lock.is_held(cache.lock):
            return
        try:
            _manifest(cache)
            return
        except _Unusable:
            time.sleep(0.1)


def _locked(cache: Cache, purpose: str = "") -> ContextManager[str]:
    return cache_lock.locked(cache.lock, lambda line: cache.say(f"{cache.folder}: {line}{purpose}"))


def _write(cache: Cache, build: Build) -> dict[str, Any]:
    """Write shards, then the manifest that makes them valid; until then it is empty."""
    before = _parse(cache)
    _replace(cache, {})
    features = build()
    starts = range(0, len(features), _ROWS)
    shards: list[dict[str, Any]] = []
    for index, start in enumerate(starts):
        name = NAME + (str(index) if len(starts) > 1 else "")
        rows = range(start, min(start + _ROWS, len(features)))
        shards.append({"name": name, "rows": len(rows), "bytes": _write_shard(cache, name, features, rows)})
    _remove(cache, before, [shard["name"] for shard in shards])
    manifest = {
        "key": dict(cache.key),
        "columns": features.max_seq_length,
        "rows": len(features),
        "shards": shards,
        "run": cache.run_id,
        "build": uuid.uuid4().hex,
    }
    _replace(cache, manifest)
    return manifest


def _replace(cache: Cache, manifest: Mapping[str, Any]) -> None:
    draft = cache.manifest + _DRAFT
    with open(draft, "w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1)
    os.replace(draft, cache.manifest)


def _remove(cache: Cache, manifest: Any | None, kept: Sequence[str]) -> None:
    """Remove the files of an earlier cache with a manifest, so that a reader of all files sees one cache."""
    shards = manifest.get("shards", []) if isinstance(manifest, dict) else []
    for name in {str(shard.get("name")) for shard in shards if isinstance(shard, dict)} - set(kept):
        if re.match(_PATTERN, name) and os.path.exists(os.path.join(cache.folder, name)):
            os.unlink(os.path.join(cache.folder, name))


def _write_shard(cache: Cache, name: str, features: Features, rows: range) -> int:
    """Write one file completely or not at all; return its size."""
    import tensorflow as tf

    path = os.path.join(cache.folder, name)
    with tf.io.TFRecordWriter(path + _DRAFT) as writer:
        for record in _records(features, rows):
            writer.write(record)
    os.replace(path + _DRAFT, path)
    return os.path.getsize(path)


def _records(features: Features, rows: range) -> Iterator[bytes]:
    """Encode some rows, a few hundred at a time."""
    for start in rows[::_AT_ONCE]:
        chunk = slice(start, min(start + _AT_ONCE, rows.stop))
        columns = [tf_example.pack_numbers(getattr(features, name)[chunk]) for name in _TOKENS]
        singles = (getattr(features, name)[chunk, None].astype(np.int32) for name in _SINGLES)
        columns += [tf_example.pack_numbers(values) for values in singles]
        for packed in zip(*columns):
            yield tf_example.encode(dict(zip(_TOKENS + _SINGLES, packed)))


def _load(cache: Cache, manifest: Mapping[str, Any]) -> Features:
    """Read the files of a manifest. _Unusable: corrupt, or replaced meanwhile."""
    names = [str(shard["name"]) for shard in manifest["shards"]]
    features = _read(cache.folder, names, int(manifest["columns"]))
    held = _parse(cache)
    if not isinstance(held, dict) or held.get("build") != manifest["build"]:
        raise _Unusable("it was replaced while it was read")
    return features


def _foreign(cache: Cache) -> Features | None:
    """Read a cache without manifest, as the original script leaves it; None if none fits."""
    if not cache.reuse or _parse(cache) is not None:
        return None
    names = sorted(filter(re.compile(_PATTERN).match, os.listdir(cache.folder)))
    if not names:
        return None
    columns = cache.key["max_seq_length"]
    try:
        _check_row(os.path.join(cache.folder, names[0]), columns)
        features = _read(cache.folder, names, columns)
    except _Unusable as error:
        cache.say(f"{cache.folder}: the cache of another program does not fit and is replaced: {error}")
        return None
    cache.say(
        f"{cache.folder}: using {len(features)} rows made by another program; no manifest says from which"
        " file or with which flags, so remove them if they do not fit"
    )
    return features


def _check_row(path: str, columns: int) -> None:
    """Look at a file's first record. _Unusable: it lacks a value, or has another number of columns."""
    import tensorflow as tf

    name = os.path.basename(path)
    with open(path, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        record = stream.read(4 + min(size, os.path.getsize(path)))[4:]  # after the checksum of the length
    try:
        row = tf.train.Example.FromString(record).features.feature
    except Exception:  # google.protobuf's DecodeError, of whichever protobuf TensorFlow has
        raise _Unusable(f"{name} has no records of tf.train.Example") from None
    missing = [column for column in _TOKENS + _SINGLES if column not in row]
    if missing:
        raise _Unusable(f"the rows of {name} have no {', '.join(missing)}")
    for column in _TOKENS:
        held = len(row[column].int64_list.value)
        if held != columns:
            raise _Unusable(f"the rows of {name} have {held} columns, max_seq_length is {columns}")


def _read(folder: str, names: Sequence[str], columns: int) -> Features:
    """Read files in their order into features. _Unusable: truncated, corrupt, other columns."""
    counts = [_count(os.path.join(folder, name)) for name in names]
    arrays: dict[str, np.ndarray] = {name: np.empty((sum(counts), columns), _KINDS[name]) for name in _TOKENS}
    arrays.update({name: np.empty(sum(counts), _KINDS[name]) for name in _SINGLES})
    row = 0
    for name, count in zip(names, counts):
        end = row + count
        for batch in _batches(os.path.join(folder, name), columns):
            rows = slice(row, row + len(batch["unique_ids"]))
            for column, values in batch.items():
                arrays[column][rows] = values
            row = rows.stop
        if row != end:
            raise _Unusable(f"{name} ends early")
    lengths = arrays["input_mask"].sum(axis=1, dtype=np.int32)
    return Features(example_index=None, doc_span_index=None, lengths=lengths, **arrays)


def _count(path: str) -> int:
    """Count the records of a file from their headers. _Unusable: it ends within a record, or is missing."""
    size, place, records = _size(path), 0, 0
    if not size:
        raise _Unusable(f"{os.path.basename(path)} is missing or empty")
    with open(path, "rb") as stream:
        while place < size:
            stream.seek(place)
            header = stream.read(8)
            place += 16 + int.from_bytes(header, "little")  # length, its checksum, data, their checksum
            records += 1
    if place != size:
        raise _Unusable(f"{os.path.basename(path)} ends within record {records}")
    return records


def _batches(path: str, columns: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield a file's records in batches, read by TensorFlow, which verifies every checksum."""
    import tensorflow as tf

    spec: dict[str, Tensor] = {name: tf.io.FixedLenFeature([columns], tf.int64) for name in _TOKENS}
    spec.update({name: tf.io.FixedLenFeature([], tf.int64) for name in _SINGLES})
    with tf.Graph().as_default():
        records = tf.data.TFRecordDataset(path).batch(1024)
        parsed = records.map(lambda batch: tf.io.parse_example(batch, spec), num_parallel_calls=2).prefetch(2)
        following = tf.compat.v1.data.make_one_shot_iterator(parsed).get_next()
        with tf.compat.v1.Session() as session:
            while True:
                try:
                    yield session.run(following)
                except tf.errors.OutOfRangeError:
                    return
                except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
                    problem = error.message.splitlines()[0]
                    raise _Unusable(f"{os.path.basename(path)}: {problem}") from None
