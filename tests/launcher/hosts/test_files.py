"""Files of hosts without a shared disk: what the ranks made comes to the head, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.hosts.files import Receiver, Source
from launcher.hosts.frames import Decoder, Frame, encode
from launcher.hosts.offer import PIECE, Offer
from launcher.run_dir import HostRunDir, RunDir
from launcher.runs.gather import Gathered, gather

WINDOW = 4 * PIECE


class Pair:
    """A head's run folder, and hosts whose run folders are elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.head = RunDir.create(folder / "head", [0])
        self.hosts: dict[int, tuple[RunDir, tuple[int, ...]]] = {}

    def host(self, index: int, *ranks: int) -> RunDir:
        run = HostRunDir.make(self.folder / f"node{index}", f"node{index}", ranks)
        self.hosts[index] = run, ranks
        return run

    def receiver(self) -> Receiver:
        sources = {index: Source(f"node{index}", ranks) for index, (_, ranks) in self.hosts.items()}
        return Receiver(self.head, sources)

    def frames(
        self, receiver: Receiver, index: int, patterns: tuple[str, ...] = (), cwd: Path | None = None
    ) -> Iterator[Frame]:
        """Yield what a host sends, as it arrives after its way through srun."""
        run, ranks = self.hosts[index]
        cwds = {rank: str(cwd or run.rank_dir(rank)) for rank in ranks}
        offer = Offer(index, run, cwds, receiver.fetch(index, patterns, True), WINDOW)
        decoder = Decoder(pytest.fail)
        end = time.monotonic() + 10
        while not offer.finished:
            assert time.monotonic() < end, "the offer has stopped"
            for frame in offer.frames():
                yield from decoder.feed(b"".join(encode(frame)))
            offer.took(receiver.totals().get(str(index), 0))
        assert offer.finished

    def bring(self, *patterns: str, cwd: Path | None = None) -> Gathered:
        """Bring everything of all hosts, and gather it."""
        receiver = self.receiver()
        for index in self.hosts:
            for frame in self.frames(receiver, index, patterns, cwd):
                receiver.take(frame)
        assert not receiver.waiting
        return gather(self.head, [0], patterns, arrived=receiver.arrived())


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def checkpoint(run: RunDir, rank: int, step: int, data: bytes = b"w", folder: Path | None = None) -> Path:
    """Write and report a checkpoint; return its prefix."""
    prefix = (folder or run.rank_dir(rank)) / f"model.ckpt-{step}"
    prefix.parent.mkdir(parents=True, exist_ok=True)
    files = [f"{prefix}.index", f"{prefix}.data-00000-of-00001"]
    for path in files:
        Path(path).write_bytes(data)
    report(run, rank, {"kind": "checkpoint", "step": step, "prefix": str(prefix), "files": files})
    return prefix


def report(run: RunDir, rank: int, record: dict[str, Any]) -> None:
    with open(str(run.artifacts(rank)), "a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_checkpoint_of_another_host_is_here_and_there_as_of_one_host(pair: Pair) -> None:
    run = pair.host(1, 8)
    checkpoint(run, 8, 5, b"old")
    checkpoint(run, 8, 10, os.urandom(3 * PIECE + 17))
    found = pair.bring()
    assert found.problems == ()
    assert found.checkpoint == str(pair.head.checkpoints / "model.ckpt-10")
    for folder in (pair.head.checkpoints, run.checkpoints):
        assert (folder / "latest").read_text() == "model.ckpt-10\n"
        assert len(files_below(folder)) == 6
    manifest = json.loads((pair.head.checkpoints / "manifest.json").read_text())
    assert {(entry["rank"], entry["step"]) for entry in manifest["files"]} == {(8, 5), (8, 10)}
    for entry in manifest["files"]:
        data = (run.checkpoints / entry["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert (pair.head.checkpoints / entry["name"]).read_bytes() == data
    assert not (pair.head.path / "hosts/node1/files").exists()


def test_files_outside_of_the_run_folder_come_too(pair: Pair) -> None:
    run = pair.host(0, 0)
    checkpoint(run, 0, 3, folder=pair.folder / "disk of node 0" / "out")
    assert pair.bring().checkpoint == str(pair.head.checkpoints / "model.ckpt-3")
    assert files_below(pair.head.path / "checkpoints")[2:] == [
        "model.ckpt-3.data-00000-of-00001", "model.ckpt-3.index",
    ]  # fmt: skip


def test_a_relative_path_is_one_where_the_rank_was_started(pair: Pair) -> None:
    run = pair.host(1, 1)
    (pair.folder / "work").mkdir()
    (pair.folder / "work/nbest.json").write_text("{}")
    report(run, 1, {"kind": "predictions", "files": ["nbest.json"]})
    found = pair.bring(cwd=pair.folder / "work")
    assert found.predictions == (str(pair.head.predictions / "nbest.json"),)


def test_equal_names_of_two_hosts_are_both_kept_and_the_first_rank_is_the_latest(pair: Pair) -> None:
    for index, rank in ((0, 0), (1, 8)):
        checkpoint(pair.host(index, rank), rank, 5, b"of rank %d" % rank)
    found = pair.bring()
    assert found.checkpoint == str(pair.head.checkpoints / "model.ckpt-5")
    assert (pair.head.checkpoints / "model.ckpt-5.index").read_bytes() == b"of rank 0"
    assert (pair.head.checkpoints / "rank_8/model.ckpt-5.index").read_bytes() == b"of rank 8"


def test_a_checkpoint_of_many_folders_keeps_their_names(pair: Pair) -> None:
    run = pair.host(1, 8)
    folder = run.rank_dir(8) / "step-7"
    folder.mkdir()
    names = ["config.json", "model.safetensors"]
    for name in names:
        (folder / name).write_text(name)
    files = [str(folder / name) for name in names]
    report(run, 8, {"kind": "checkpoint", "step": 7, "prefix": str(folder), "files": files})
    assert pair.bring().checkpoint == str(pair.head.checkpoints / "step-7")
    assert files_below(pair.head.checkpoints / "step-7") == names


def test_patterns_find_files_on_the_host_with_their_modes_and_through_no_link(pair: Pair) -> None:
    run = pair.host(1, 8, 9)
    outside = pair.folder / "secret"
    outside.write_text("x")
    (run.rank_dir(8) / "log").mkdir()
    (run.rank_dir(8) / "log/empty.txt").touch()
    (run.rank_dir(8) / "run.txt").write_text("run")
    (run.rank_dir(8) / "run.txt").chmod(0o555)
    (run.rank_dir(9) / "away.txt").symlink_to(outside)
    found = pair.bring("**/*.txt", "away.txt")
    gathered = [os.path.relpath(path, str(pair.head.gathered)) for path in found.files]
    assert gathered == ["rank_8/log/empty.txt", "rank_8/run.txt"]
    assert os.stat(found.files[1]).st_mode & 0o777 == 0o555
    assert any("host node1: rank 9: away.txt: a link out of" in problem for problem in found.problems)


def test_metrics_and_problems_of_a_host_are_told(pair: Pair) -> None:
    run = pair.host(1, 8)
    report(run, 8, {"kind": "metrics", "values": {"f1": 90.5, "steps": 3}})
    report(run, 8, {"kind": "predictions", "files": ["gone.json"]})
    found = pair.bring()
    assert found.metrics == {"f1": 90.5, "steps": 3}
    assert found.problems == (f"host node1: rank 8: {run.rank_dir(8)}/gone.json: no such file",)


def test_a_problem_of_a_rank_on_a_shared_disk_names_its_host(pair: Pair) -> None:
    report(pair.head, 0, {"kind": "predictions", "files": ["/of/node0/gone.json"]})
    arrived = Receiver(pair.head, {0: Source("node0", [0], shared=True)}).arrived()
    assert gather(pair.head, [0], arrived=arrived).problems == (
        "host node0: rank 0: /of/node0/gone.json: no such file",
    )


@pytest.mark.parametrize("kind", ["ext4", "nfs"])
def test_files_on_a_hosts_own_disk_come_to_the_shared_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    run = HostRunDir.make(pair.head.path, "node1", [8])
    pair.hosts[1] = run, (8,)
    checkpoint(run, 8, 3)
    checkpoint(run, 8, 5, folder=pair.folder / "disk of node 1")
    report(run, 8, {"kind": "metrics", "values": {"f1": 90}})
    monkeypatch.setattr("launcher.hosts.probe._kind", lambda folder: kind)
    receiver = Receiver(pair.head, {1: Source("node1", [8], shared=True)})
    frames = list(pair.frames(receiver, 1, ("*.none",)))
    assert [frame.kind for frame in frames] == ["offer", "files_done"]
    for frame in frames:
        receiver.take(frame)
    if kind == "ext4":
        shutil.rmtree(pair.folder / "disk of node 1")
    found = gather(pair.head, [8], arrived=receiver.arrived())
    assert found.problems == () and found.metrics == {"f1": 90}
    assert found.checkpoint == str(pair.head.checkpoints / "model.ckpt-5")
    assert len(files_below(pair.head.checkpoints)) == 6
    assert not (run.own / "files").exists()


def test_a_checkpoint_that_lacks_a_file_is_not_the_latest(pair: Pair) -> None:
    run = pair.host(1, 8)
    checkpoint(run, 8, 5)
    prefix = checkpoint(run, 8, 9)
    os.unlink(f"{prefix}.index")
    found = pair.bring()
    assert found.checkpoint == str(pair.head.checkpoints / "model.ckpt-5")
    assert len(found.problems) == 1 and "model.ckpt-9.index: no such file" in found.problems[0]


def test_a_host_that_is_lost_meanwhile_costs_what_had_not_come(pair: Pair) -> None:
    run = pair.host(1, 8)
    checkpoint(run, 8, 5)
    checkpoint(run, 8, 9, b"x" * (2 * PIECE))
    receiver = pair.receiver()
    for frame in pair.frames(receiver, 1):
        if frame.kind == "file" and "-9.data" in frame.body[0]["path"] and frame.body[0]["offset"]:
            break
        receiver.take(frame)
    receiver.give_up(1, "lost")
    found = gather(pair.head, [0], arrived=receiver.arrived())
    missing = "checkpoints/model.ckpt-9.data-00000-of-00001"
    place = f"what has not come is in {pair.head.path} on that host"
    assert found.problems == (f"host node1: {missing}: lost", f"host node1: {place}")
    assert found.checkpoint == str(pair.head.checkpoints / "model.ckpt-5")
    assert not [name for name in files_below(pair.head.path) if "incoming" in name]


def test_the_user_is_told_what_has_come_and_from_where_more_is_to_come(pair: Pair) -> None:
    checkpoint(pair.host(1, 8), 8, 5, b"x" * (1 << 20))
    pair.host(2, 9)
    receiver = pair.receiver()
    for frame in pair.frames(receiver, 1):
        receiver.take(frame)
    assert receiver.progress() == "bringing files: 2 of 2 MiB; more are to come from node2"


def test_a_host_that_is_lost_before_it_offers_anything_is_named(pair: Pair) -> None:
    pair.host(1, 8)
    receiver = pair.receiver()
    receiver.give_up_all("ended by SIGINT")
    assert receiver.arrived().problems == (
        f"host node1: ended by SIGINT; what its ranks made is in {pair.head.path} on that host",
    )


def test_a_full_disk_of_the_head_costs_the_file_and_is_named_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(pair.host(1, 8), 8, 5, b"x" * (2 * PIECE))

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("launcher.hosts.files._append", full)
    found = pair.bring()
    assert [problem.rpartition(": ")[2] for problem in found.problems[:-1]] == ["No space left on device"] * 2
    assert "what has not come is in" in found.problems[-1]
    assert found.checkpoint == ""


def offered(*paths: str) -> Frame:
    empty: dict[str, Any] = {"predictions": [], "metrics": {}, "problems": [], "notes": [], "elsewhere": {}}
    item = {"rank": 8, "step": 1, "prefix": "", "files": list(paths), "complete": True}
    return Frame(1, "offer", {"checkpoints": [item], "files": [], **empty})


def piece(path: str, data: bytes = b"evil", **changes: Any) -> Frame:
    digest = hashlib.sha256(data).hexdigest()
    header = {"path": path, "offset": 0, "size": len(data), "mode": 0o4755, "last": True, "sha256": digest}
    return Frame(1, "file", ({**header, **changes}, data))


@pytest.mark.parametrize(
    "path",
    [
        "../away", "/tmp/away", "checkpoints/../../away", "plan.json", "logs/rank_8.log", "gathered/away",
        "gathered/rank_7/away", "ranks/8/away", "checkpoints", "checkpoints//away", "checkpoints/a\0", "",
        "hosts/node1/files/checkpoints/x", "checkpoints/" + "a" * 300,
    ],
)  # fmt: skip
def test_no_frame_makes_the_head_write_anywhere_else(pair: Pair, path: str) -> None:
    pair.host(1, 8)
    before = files_below(pair.folder)
    receiver = pair.receiver()
    for frame in (offered(path), piece(path), Frame(1, "files_done", {"problems": []})):
        receiver.take(frame)
    arrived = receiver.arrived()
    assert arrived.problems and not any(item.files for item in arrived.reported.checkpoints)
    assert files_below(pair.folder) == before


def test_a_link_that_a_rank_put_in_the_way_is_not_followed(pair: Pair) -> None:
    pair.host(1, 8)
    away = pair.folder / "away"
    away.mkdir()
    (pair.head.path / "hosts").symlink_to(away)
    receiver = pair.receiver()
    for frame in (offered("checkpoints/x"), piece("checkpoints/x")):
        receiver.take(frame)
    assert receiver.arrived().problems
    assert files_below(away) == []


@pytest.mark.parametrize(
    "frame",
    [
        piece("checkpoints/x", sha256="0" * 64),
        piece("checkpoints/x", size=9),
        piece("checkpoints/x", size=3),
        piece("checkpoints/x", offset=4),
        piece("checkpoints/x", mode="x"),
        piece("checkpoints/y"),
        Frame(1, "file", (["no", "object"], b"")),
        Frame(1, "offer", ["no object"]),
        Frame(1, "files_done", {}),
    ],
)
def test_a_file_that_is_not_what_its_host_wrote_does_not_appear(pair: Pair, frame: Frame) -> None:
    pair.host(1, 8)
    receiver = pair.receiver()
    receiver.take(offered("checkpoints/x"))
    receiver.take(frame)
    arrived = receiver.arrived()
    assert [item.files for item in arrived.reported.checkpoints] in ([()], [])
    assert arrived.problems
    assert [path for path in files_below(pair.head.path) if "hosts" in path] == []


def test_a_file_is_taken_once_and_from_known_hosts_alone(pair: Pair) -> None:
    pair.host(1, 8)
    receiver = pair.receiver()
    for frame in (offered("checkpoints/x"), piece("checkpoints/x", b"1"), piece("checkpoints/x", b"2")):
        receiver.take(frame)
        receiver.take(frame._replace(host=7))
    place = pair.head.path / "hosts/node1/files/checkpoints/x"
    assert place.read_bytes() == b"1" and place.stat().st_mode & 0o7777 == 0o755
    assert "'checkpoints/x': not offered; not taken" in receiver.arrived().problems[0]


def test_no_more_than_the_window_is_on_the_way(pair: Pair) -> None:
    run = pair.host(1, 8)
    checkpoint(run, 8, 5, b"x" * (20 * PIECE))
    offer = Offer(1, run, {8: ""}, pair.receiver().fetch(1, (), True), WINDOW)
    assert taken(offer, lambda size: size >= WINDOW) == WINDOW
    offer.took(PIECE)
    assert taken(offer, lambda size: size >= PIECE) == PIECE
    offer.close()
    assert list(offer.frames()) == [] and offer.finished


def taken(offer: Offer, enough: Callable[[int], bool]) -> int:
    """Take frames until there is enough, and a little longer; return their bytes."""
    size, end = 0, time.monotonic() + 10
    while not enough(size) and time.monotonic() < end:
        size += sum(len(frame.body[1]) for frame in offer.frames() if frame.kind == "file")
    time.sleep(0.05)
    return size + sum(len(frame.body[1]) for frame in offer.frames() if frame.kind == "file")


def test_a_file_that_changes_while_it_is_sent_is_a_problem(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(pair.host(1, 8), 8, 5)
    monkeypatch.setattr("launcher.hosts.offer._changed", lambda before, now: True)
    found = pair.bring()
    assert len(found.problems) == 3 and "changed while it was sent" in found.problems[0]
    assert found.checkpoint == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PATHS = st.lists(
    st.sampled_from(["checkpoints", "gathered", "rank_8", "rank_9", "..", ".", "", "x", "a\0", "\ud800"])
).map("/".join)
FIELDS = {
    "checkpoints": st.lists(st.fixed_dictionaries({"rank": st.integers(7, 9), "step": st.integers(0, 9),
        "prefix": PATHS, "files": st.lists(PATHS), "complete": st.booleans()}), max_size=2),
    "predictions": st.just([]), "files": st.lists(PATHS), "metrics": st.just({}), "notes": st.just([]),
    "problems": st.just([]), "elsewhere": st.dictionaries(st.sampled_from(["7", "8", "x"]), st.lists(PATHS)),
}  # fmt: skip
HEADERS = st.fixed_dictionaries(
    {"path": PATHS | JSON, "offset": st.integers(0, 2) | JSON, "size": st.integers(0, 4) | JSON,
     "mode": st.just(0o600) | JSON, "last": st.booleans() | JSON, "sha256": JSON}
)  # fmt: skip
WHOLE = st.builds(lambda path, data: piece(path, data), PATHS, st.binary(max_size=3))
UP = st.one_of(
    st.builds(Frame, st.just(1), st.sampled_from(["offer", "files_done"]), JSON),
    st.builds(Frame, st.just(1), st.just("offer"), st.fixed_dictionaries(FIELDS)),
    st.builds(lambda header, data: Frame(1, "file", (header, data)), HEADERS | JSON, st.binary(max_size=3)),
    WHOLE,
)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(UP, max_size=6))
def test_whatever_a_host_sends_it_writes_its_own_files_and_breaks_nothing(frames: list[Frame]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder))
        receiver = Receiver(pair.head, {1: Source("node1", [8])})
        for frame in frames:
            receiver.take(frame)
        gather(pair.head, [0], arrived=receiver.arrived())
        found = [path.split("/") for path in files_below(Path(folder))]
    assert all(parts[:1] == ["head"] and parts[1] in ("hosts", "gathered", "checkpoints") for parts in found)
    assert all(parts[2] == "rank_8" for parts in found if parts[1] == "gathered")
