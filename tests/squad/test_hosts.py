"""The program on two hosts with disks of their own, played by two folders."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest

from rank_table.inventory import Device, Host
from rank_table.render import render
from rank_table.table import RankTable
from squad import hosts
from squad.data import cache_lock
from tests.forked import Forked, wait_all
from tests.launching import ROOT
from tests.ports import free_ports
from tests.squad.conftest import flags, squad_document


def _ranks(folder: Path, words: Sequence[Sequence[str]]) -> tuple[list[int], list[str]]:
    """Run the program on two hosts, each with its own folder; return exit codes and outputs."""
    table = render(RankTable.from_hosts([Host(name, (Device(0, 0, ""),)) for name in ("a", "b")]))
    known = [{"server_id": name, "address": "127.0.0.1", "shared": False} for name in ("a", "b")]
    first, started = str(free_ports(2)), []
    for rank, mine in enumerate(words):
        run = folder / f"host{rank}" / "runs" / "it"
        (run / "ranks" / str(rank)).mkdir(parents=True, exist_ok=True)
        (run / "rank_table.json").write_text(table)
        (run / "hosts.json").write_text(json.dumps(known))
        environ = {
            **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RANK_ID": str(rank),
            "RANK_TABLE_FILE": str(run / "rank_table.json"), "NPU_LAUNCH_RUN_DIR": str(run),
            "NPU_LAUNCH_RANK_DIR": str(run / "ranks" / str(rank)), "NPU_LAUNCH_BACKEND": "cpu",
            "NPU_LAUNCH_RUN_ID": "it", "NPU_LAUNCH_GRPC_PORT": first, "NPU_LAUNCH_CWD": str(run.parents[1]),
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }  # fmt: skip
        program = [str(ROOT / "squad" / "run_squad.py"), *mine, "--collective=grpc"]
        started.append(Forked(program, run, environ, folder / f"rank_{rank}.log"))
    return wait_all(started), [one.text() for one in started]


@pytest.mark.parametrize("batch", [8, 64])
def test_two_hosts_train_and_answer_like_one(
    tiny: Path, tmp_path: Path, batch: int, capsys: pytest.CaptureFixture
) -> None:
    """Each builds its cache; checkpoints and answers are on rank 0's host alone, with 64 all batches, too."""
    wish = flags(
        tiny, do_train=True, do_predict=True, num_train_steps=3, output_dir="out", input_files_dir="cache",
        use_tfrecord=True, global_batch_size=4, display_loss_steps=1, predict_batch_size=batch,
        eval_steps=2, keep_best="f1",
    )  # fmt: skip
    codes, texts = _ranks(tmp_path, [wish, wish])
    assert codes == [0, 0], texts
    for rank in (0, 1):
        assert (tmp_path / f"host{rank}" / "cache" / "train.manifest.json").exists()
    assert not (tmp_path / "host1" / "out").exists()
    from squad.run_squad import main

    one = tmp_path / "one"
    rest = [word for word in wish if not word.startswith(("--output_dir", "--input_files_dir", "--use_tf"))]
    assert main([*rest, f"--output_dir={one}"]) == 0
    evaluated = [re.findall(r"step \d: EM .*", text) for text in (capsys.readouterr().out, texts[0])]
    assert evaluated[0] == evaluated[1] and len(evaluated[0]) == 2
    answers = [json.loads((out / "null_odds.json").read_text()) for out in (tmp_path / "host0" / "out", one)]
    assert answers[0].keys() == answers[1].keys()
    np.testing.assert_allclose(list(answers[0].values()), [answers[1][key] for key in answers[0]], atol=1e-4)


def test_hosts_whose_files_differ_are_named_before_a_step(tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(squad_document(1, 12)))
    wish = flags(tiny, do_train=True, num_train_steps=2, output_dir="out", global_batch_size=4)
    codes, texts = _ranks(tmp_path, [wish, [*wish, f"--train_file={other}"]])
    assert codes == [2, 2], texts
    for text in texts:
        line = text.strip().splitlines()[-1]
        assert line.startswith("run_squad: --train_file means something else on b (rank 1) than on a;"), text


def test_what_differs_names_the_hosts_of_the_fewest() -> None:
    facts: list[dict[str, str]] = [{"gelu": "exact", "train_file": "x"} for _ in range(4)]
    assert hosts.differences(facts, ("a", "a", "b", "b")) == []
    facts[3]["gelu"] = "tanh"
    facts[2]["train_file"] = facts[3]["train_file"] = facts[1]["train_file"] = "y"
    assert hosts.differences(facts, ("a", "a", "b", "b")) == [
        "--gelu means something else on b (rank 3) than on a",
        "--train_file means something else on a (rank 0) than on a",
    ]


class Ranks:
    """Ranks whose all_gather works between threads."""

    def __init__(self, size: int) -> None:
        self._barrier, self._values = threading.Barrier(size), [None] * size

    def of(self, rank: int) -> Any:
        """Give the backend of one rank."""
        outer = self

        class Backend:
            def __init__(self) -> None:
                self.rank = rank

            def all_gather(self, value: Any) -> list[Any]:
                outer._values[rank] = json.loads(json.dumps(value))
                outer._barrier.wait(10)
                found = list(outer._values)
                outer._barrier.wait(10)
                return found

        return Backend()


@pytest.mark.parametrize("sizes", [(0, 0, 0), (5000, 0, 1), (1024, 1025, 7)])
def test_bytes_of_all_ranks_reach_rank_0(sizes: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_AT_ONCE", 3000)
    sent = [os.urandom(size) for size in sizes]
    ranks, found = Ranks(len(sizes)), {}

    def run(rank: int) -> None:
        found[rank] = hosts.collect(sent[rank], ranks.of(rank))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == {0: sent, 1: [], 2: []}


def test_a_builder_on_another_host_that_is_silent_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(cache_lock, "_SILENCE", 0.5)
    path, said = tmp_path / "lock", []
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("12 node9")
        other.flush()
        with cache_lock.locked(str(path), said.append) as waited_for:
            assert waited_for == "process 12 on node9"
        assert path.read_text() == "12 node9"
    assert said[0] == "waiting for process 12 on node9" and "no sign for 0.5 s" in said[1]


def test_a_look_at_the_lock_is_no_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    path, said = tmp_path / "lock", []
    path.write_text("12 node9")
    with path.open("a") as look:  # as is_held has it for a moment
        fcntl.flock(look, fcntl.LOCK_EX)
        monkeypatch.setattr(cache_lock.time, "sleep", lambda seconds: fcntl.flock(look, fcntl.LOCK_UN))
        with cache_lock.locked(str(path), said.append) as waited_for:
            assert waited_for == "" and said == []


def test_a_builder_on_another_host_that_touches_the_file_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(cache_lock, "_SILENCE", 0.6)
    path, said, held = tmp_path / "lock", [], threading.Event()

    def build() -> None:
        with path.open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            other.write("12 node9")
            other.flush()
            held.set()
            for _ in range(6):
                threading.Event().wait(0.3)
                os.utime(str(path))

    builder = threading.Thread(target=build)
    builder.start()
    held.wait(10)
    with cache_lock.locked(str(path), said.append):
        assert not builder.is_alive() or builder.join(5) is None
        assert path.read_text() == f"{os.getpid()} {socket.gethostname()}"
    assert said == ["waiting for process 12 on node9"]
