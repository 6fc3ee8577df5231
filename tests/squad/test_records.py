"""The record cache: the format of the original script, built once, never used when it does not fit."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from squad.data import feature_cache
from squad.data.feature_cache import Cache, cache_key, load_or_build
from squad.data.features import FIRST_UNIQUE_ID, Features
from squad.errors import DataError
from tests.forked import Forked, wait_all

pytest.importorskip("tensorflow")
L = 12
COLUMNS = ("unique_ids", "input_ids", "input_mask", "segment_ids", "start_positions", "end_positions",
           "is_impossible", "lengths")  # fmt: skip


def features(rows: int = 5, seed: int = 0) -> Features:
    random = np.random.RandomState(seed)
    lengths = random.randint(3, L + 1, rows).astype(np.int32)
    mask = (np.arange(L) < lengths[:, None]).astype(np.int8)
    starts = random.randint(0, lengths).astype(np.int32)
    return Features(
        unique_ids=np.arange(FIRST_UNIQUE_ID, FIRST_UNIQUE_ID + rows, dtype=np.int32),
        example_index=np.arange(rows),
        doc_span_index=np.zeros(rows),
        lengths=lengths,
        input_ids=random.randint(0, 30522, (rows, L)).astype(np.int32) * mask,
        input_mask=mask,
        segment_ids=mask,
        start_positions=starts,
        end_positions=starts,
        is_impossible=starts == 0,
    )


class Room:
    """Give caches in one folder; remember what was said and how often features were built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.built = 0
        self.key: dict[str, Any] = {"max_seq_length": L, "doc_stride": 4, "train_file": "aa"}

    def load(self, rows: int = 5, seed: int = 0, **options: Any) -> Features:
        def build() -> Features:
            self.built += 1
            return features(rows, seed)

        cache = Cache(str(self.folder), dict(self.key), say=self.said.append, **options)
        return load_or_build(cache, build)

    def last(self) -> str:
        return self.said[-1]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "cache")


def equal(one: Features, other: Features) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


def test_rows_come_back_as_they_were_built(room: Room) -> None:
    assert equal(room.load(), features())
    assert equal(room.load(seed=1), features())  # from the files
    assert room.built == 1
    assert room.said == [f"{room.folder}: building the cache of features: none exists yet"]


def test_types_are_those_of_built_features(room: Room) -> None:
    loaded, built = room.load(), features()
    assert all(getattr(loaded, name).dtype == getattr(built, name).dtype for name in COLUMNS)


def test_many_rows_are_spread_over_files_in_order(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "_ROWS", 3)
    monkeypatch.setattr(feature_cache, "_AT_ONCE", 2)
    assert equal(room.load(rows=40), features(40))
    assert sum(name.startswith("train.tf_record") for name in os.listdir(str(room.folder))) == 14
    assert equal(room.load(rows=40), features(40)) and room.built == 1


def test_the_seeds_reader_reads_the_files(room: Room) -> None:
    import tensorflow as tf

    room.load()
    scalar, row = tf.io.FixedLenFeature([], tf.int64), tf.io.FixedLenFeature([L], tf.int64)
    spec = dict.fromkeys(("unique_ids", "start_positions", "end_positions", "is_impossible"), scalar)
    spec.update(dict.fromkeys(("input_ids", "input_mask", "segment_ids"), row))
    path = str(room.folder / "train.tf_record")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        raw = list(tf.compat.v1.io.tf_record_iterator(path))
        parsed = session.run([tf.io.parse_single_example(record, spec) for record in raw])
    assert [example["unique_ids"] for example in parsed] == features().unique_ids.tolist()
    for name in COLUMNS[1:-1]:
        assert np.array_equal([example[name] for example in parsed], getattr(features(), name)), name


def seed_cache(folder: Path, rows: Features, files: int) -> None:
    """Write files as the original script does: plain messages, one file per rank, no manifest."""
    import tensorflow as tf

    folder.mkdir()
    for index in range(files):
        name = "train.tf_record" + (str(index) if files > 1 else "")
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for row in range(index * len(rows) // files, (index + 1) * len(rows) // files):
                feature = {}
                for column in COLUMNS[:-1]:
                    values = np.atleast_1d(getattr(rows, column)[row]).astype(int).tolist()
                    feature[column] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
                message = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(message.SerializeToString())


@pytest.mark.parametrize("files", [1, 2])
def test_a_cache_of_the_seed_is_read_and_said_to_be_unchecked(room: Room, files: int) -> None:
    seed_cache(room.folder, features(6), files)
    assert equal(room.load(), features(6))
    assert room.built == 0 and "using 6 rows made by another program" in room.last()


def test_a_cache_of_the_seed_with_rows_of_another_length_is_not_used(room: Room) -> None:
    seed_cache(room.folder, features(6), 1)
    room.key["max_seq_length"] = L + 1
    room.load()
    assert room.built == 1
    assert "does not fit and is replaced: the rows of train.tf_record" in room.said[0]
    assert f"have {L} columns, max_seq_length is {L + 1}" in room.said[0]


def test_without_use_tfrecord_every_run_builds_and_its_ranks_share(room: Room) -> None:
    for run in ("first", "second"):
        for rank in range(3):
            assert equal(room.load(reuse=False, run_id=run, first=rank == 0), features())
    assert room.built == 2
    room.load(reuse=False)
    room.load(reuse=False)
    assert room.built == 4


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("doc_stride", 8, "made with doc_stride 4 instead of 8"),
        ("train_file", "bb", "train_file has changed"),
        ("do_lower_case", True, "made with do_lower_case None instead of True"),
    ],
)
def test_a_stale_cache_is_rebuilt_with_one_line(room: Room, name: str, value: Any, words: str) -> None:
    room.load()
    room.key[name] = value
    assert equal(room.load(seed=1), features(seed=1))
    assert len(room.said) == 2 and words in room.last()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "name, harm, words",
    [
        ("train.tf_record", truncate, "bytes instead of"),
        ("train.tf_record", flip, "corrupt"),
        ("train.tf_record", os.unlink, "has 0 bytes instead of"),
        ("train.manifest.json", truncate, "damaged or incomplete"),
        ("train.manifest.json", lambda path: path.write_text("[]"), "damaged or incomplete"),
        ("train.manifest.json", lambda path: path.write_text('{"key": 3}'), "damaged or incomplete"),
    ],
)
def test_a_harmed_cache_is_rebuilt_and_said_to_be(
    room: Room, name: str, harm: Callable[[Path], Any], words: str
) -> None:
    room.load()
    harm(room.folder / name)
    assert equal(room.load(seed=1), features(seed=1))
    assert room.built == 2 and words in "".join(room.said[1:])
    assert equal(room.load(), features(seed=1)) and room.built == 2


def test_files_of_a_larger_earlier_cache_are_removed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "_ROWS", 3)
    room.load(rows=12)
    room.key["doc_stride"] = 8
    room.load(rows=2)
    assert sorted(n for n in os.listdir(str(room.folder)) if "tf_record" in n) == ["train.tf_record"]


def test_a_build_that_fails_leaves_nothing_that_could_be_used(room: Room) -> None:
    def fail() -> Features:
        raise DataError("bad data")

    room.load()
    with pytest.raises(DataError, match="bad data"):
        load_or_build(Cache(str(room.folder), {"max_seq_length": L}, say=room.said.append), fail)
    assert equal(room.load(seed=1), features(seed=1))
    assert "incomplete" in room.last()


RANK = """
import sys, time
sys.path[:0] = [%(root)r, %(tests)r]
from squad.data.feature_cache import Cache, load_or_build
from test_records import L, features
def build():
    print("build", flush=True)
    time.sleep(float(sys.argv[2]))
    return features()
key = {"max_seq_length": L, "doc_stride": 4, "train_file": "aa"}
loaded = load_or_build(Cache(%(folder)r, key, first=sys.argv[1] == "0"), build)
print("rows", len(loaded), flush=True)
"""


def rank(room: Room, number: int, seconds: float) -> Forked:
    tests = Path(__file__).resolve().parent
    program = RANK % {"root": str(tests.parents[1]), "tests": str(tests), "folder": str(room.folder)}
    script = room.folder.with_name(f"rank_{number}.py")
    script.write_text(program)
    return Forked([str(script), str(number), str(seconds)], tests, os.environ, script.with_suffix(".log"))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_rank_builds_and_the_others_wait_and_say_so(room: Room) -> None:
    ranks = [rank(room, number, 4) for number in (1, 0, 2)]
    assert wait_all(ranks) == [0] * 3
    outputs = [process.text() for process in ranks]
    assert "build\n" in outputs[1]
    assert "build\n" not in outputs[0] + outputs[2]
    assert all("rows 5" in output for output in outputs)
    assert f"waiting for process {ranks[1].pid} to build" in outputs[0] + outputs[2]


def test_a_dead_builder_is_noticed_and_another_rank_builds(room: Room) -> None:
    builder = rank(room, 0, 600)
    manifest = room.folder / "train.manifest.json"
    wait_until(manifest.exists)  # it then holds the lock
    waiter = rank(room, 1, 0)
    wait_until(lambda: "waiting for process" in waiter.text())
    builder.kill()
    waiter.wait(120)
    output = waiter.text()
    assert "rows 5" in output and "build\n" in output
    assert "died while building it" in output or "incomplete" in output


def test_a_key_knows_the_files_contents_and_the_parameters(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    key = cache_key(str(one), str(other), doc_stride=3)
    assert key["doc_stride"] == 3 and key["train_file"] != key["vocab_file"]
    other.write_text("3")
    assert cache_key(str(one), str(other), doc_stride=3)["vocab_file"] != key["vocab_file"]
    assert json.loads(json.dumps(key)) == key
