"""A training that evaluates itself: nothing else changes, and a run that was killed ends like a whole one."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Callable, ClassVar, Iterator

import numpy as np
import pytest

from bert.checkpoints import store
from bert.evaluation import Standing
from tests.bert.runs import COLUMNS, MODEL, Job, losses, settings, step_batches, train

OFTEN = {"num_train_steps": 12, "eval_steps": 2, "save_checkpoints_steps": 5, "dropout": True}
EVERY = {**OFTEN, "keep_best": "f1"}
BEST = 6  # the step at which Probe says 100


class Probe:
    """An evaluation that tells of weights how near they are to those of which it gave `wanted` as exact."""

    shape = (8, COLUMNS)
    about: ClassVar[dict[str, Any]] = {}

    def __init__(self, wanted: float = 0.0, die_at: int = 0, signal_at: int = 0) -> None:
        self._wanted = wanted
        self._die_at, self._signal_at, self._calls = die_at, signal_at, 0

    def measure(self, run: Callable[..., Iterator[Any]], stopped: Callable[[], bool]) -> Any:
        self._calls += 1
        batches = step_batches(1000)
        outputs = []
        for number, logits in enumerate(run(next(batches) for _ in range(3))):
            outputs.append(logits)
            if number == 1 and self._calls in (self._die_at, self._signal_at):
                os.kill(os.getpid(), signal.SIGKILL if self._calls == self._die_at else signal.SIGTERM)
                time.sleep(0.2)  # a thread takes notice of it
        if stopped():
            return None
        value = float(np.sum([np.abs(part).astype(np.float64).sum() for part in outputs]))
        return {"f1": 100.0 - abs(value - self._wanted), "exact": value, "span_f1": 50.0}


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "rank0" / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "eval_f1" in row]


def figures(folder: Path) -> dict[int, float]:
    """Give each evaluation's F1; of one that was made again, the last."""
    return {row["step"]: row["eval_f1"] for row in rows(folder)}


def kept(folder: Path) -> list[int]:
    return [int(prefix.rpartition("-")[2]) for prefix in store.kept(str(folder / "out"))]


class Whole:
    """A run that nobody has killed."""

    def __init__(self, folder: Path) -> None:
        done(folder / "first", settings(**OFTEN), Probe())
        first = {row["step"]: row["eval_exact"] for row in rows(folder / "first")}
        self.folder, self.wanted = folder / "whole", first[BEST]
        self.output = done(self.folder, settings(**EVERY), Probe(self.wanted)).output()


def done(folder: Path, config: Any, probe: Probe, code: int = 0, **options: Any) -> Job:
    job = Job(folder, config, evaluation=probe, **options)
    assert job.wait() == [code], job.output()
    return job


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("evaluated"))


def test_an_evaluation_changes_no_loss(whole: Whole, tmp_path: Path) -> None:
    done(tmp_path, settings(**{**EVERY, "eval_steps": 0}), Probe())
    lines = (whole.folder / "rank0" / "metrics.jsonl").read_text().splitlines()
    mine = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    assert mine == losses(tmp_path) and len(mine) == 12


def test_the_best_checkpoint_is_kept_beside_the_newest(whole: Whole) -> None:
    found = figures(whole.folder)
    assert sorted(found) == [2, 4, 6, 8, 10, 12] and found[BEST] == 100.0 > max(
        f1 for step, f1 in found.items() if step != BEST
    )
    assert kept(whole.folder) == [BEST, 10, 12]
    standing = Standing.read(facts(whole.folder, BEST))
    assert standing.best == standing.figures and standing.best_step == BEST
    assert 'model.ckpt-12"' in (whole.folder / "out" / "checkpoint").read_text()
    lines = [line for line in whole.output.splitlines() if line.startswith(("step 6: ", "step 8: "))]
    assert lines[0].endswith("F1 100.0 span F1 50.0 (best F1 100.0)")
    assert lines[1].endswith("(best F1 100.0 at step 6)")


def facts(folder: Path, step: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / f"model.ckpt-{step}.json").read_text())
    return found


def same_end(killed: Path, whole: Whole) -> None:
    """Check the rest of a run against one that nobody killed."""
    assert figures(killed) == figures(whole.folder)
    assert kept(killed) == kept(whole.folder)
    for step in kept(killed):
        mine, theirs = facts(killed, step), facts(whole.folder, step)
        assert (mine["evaluation"], mine["loss"]) == (theirs["evaluation"], theirs["loss"]), step


@pytest.mark.parametrize("call", [4, pytest.param(6, marks=pytest.mark.slow)], ids=["amid", "the last"])
def test_a_run_killed_during_an_evaluation_ends_like_a_whole_one(
    whole: Whole, tmp_path: Path, call: int
) -> None:
    done(tmp_path, settings(**EVERY), Probe(whole.wanted, die_at=call), -signal.SIGKILL)
    done(tmp_path, settings(**EVERY), Probe(whole.wanted))
    same_end(tmp_path, whole)


@pytest.mark.parametrize("replace", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 4, 5))])
def test_a_run_killed_while_the_best_is_saved_ends_like_a_whole_one(
    whole: Whole, tmp_path: Path, replace: int
) -> None:
    config = settings(**{**EVERY, "save_checkpoints_steps": 0, "eval_steps": BEST})
    done(tmp_path / "whole", config, Probe(whole.wanted))
    done(tmp_path, config, Probe(whole.wanted), -signal.SIGKILL, die_at_replace=replace)
    done(tmp_path, config, Probe(whole.wanted))
    assert figures(tmp_path) == figures(tmp_path / "whole") and kept(tmp_path) == [BEST, 12]
    assert facts(tmp_path, 12)["evaluation"] == facts(tmp_path / "whole", 12)["evaluation"]


@pytest.mark.parametrize("call", [4, 6], ids=["amid", "the last"])
def test_sigterm_during_an_evaluation_saves_and_it_is_made_again(
    whole: Whole, tmp_path: Path, call: int
) -> None:
    done(tmp_path, settings(**EVERY), Probe(whole.wanted, signal_at=call), 143)
    newest = facts(tmp_path, 2 * call)["evaluation"]
    assert newest["pending"] and newest["done"] == call - 1
    done(tmp_path, settings(**EVERY), Probe(whole.wanted))
    assert figures(tmp_path) == figures(whole.folder)
    assert facts(tmp_path, 12)["evaluation"] == facts(whole.folder, 12)["evaluation"]
    assert BEST in kept(tmp_path)


def test_no_better_evaluation_ends_the_training_and_it_stays_ended(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = settings(**OFTEN, early_stopping_patience=2)
    probe = Probe(figures_in_this_process(tmp_path / "first"))
    result = train(tmp_path, config, evaluation=probe)
    assert (result.step, result.best) == (BEST + 4, "")
    assert "the training ends early" in capsys.readouterr().out
    assert train(tmp_path, config, evaluation=probe) == result
    assert "nothing to do" in capsys.readouterr().out
    assert train(tmp_path, settings(**OFTEN), evaluation=probe).step == 12  # without patience it goes on


def figures_in_this_process(folder: Path) -> float:
    """Give what Probe wants of weights that were trained with this process's threads."""
    train(folder, settings(**OFTEN), evaluation=Probe())
    return {row["step"]: float(row["eval_exact"]) for row in rows(folder)}[BEST]


def test_the_weights_of_an_evaluation_are_those_of_the_training(tmp_path: Path) -> None:
    """Its logits are those that predicting with the checkpoint gives."""
    from bert import backend as backends
    from bert import predictor
    from bert.cluster import Cluster

    seen: list[Any] = []

    class Keeping(Probe):
        def measure(self, run: Any, stopped: Any) -> Any:
            seen[:] = list(run(iter([next(step_batches(7))])))
            return {"f1": 1.0}

    result = train(tmp_path, settings(num_train_steps=2, eval_steps=2), evaluation=Keeping())
    backend = backends.create(Cluster(), "cpu")
    batches = iter([next(step_batches(7))])
    expected = list(predictor.predict(MODEL, result.checkpoint, batches, backend))
    np.testing.assert_array_equal(seen, expected)
