"""Verdicts on simulated ranks: seconds of each step are made up, a collective joins the ranks."""

from __future__ import annotations

import random
from typing import Callable, Sequence

import pytest

from launcher.heartbeat import Counters
from launcher.metrics.stragglers import Stragglers, Verdict
from launcher.metrics.windows import Reading

Change = Callable[["Step"], None]


class Step:
    """What the ranks do in one step, before they meet."""

    def __init__(self, number: int, ranks: int, noise: float, seed: random.Random) -> None:
        self.number, self.random, self.collective = number, seed, 0.002
        self.own = [0.010 * max(0.5, seed.gauss(1, noise)) for _ in range(ranks)]
        self.input, self.save = [0.0002] * ranks, [0.0] * ranks
        self.tokens = [1000] * ranks


class Ranks:
    """Ranks that go on together, and what is said of them, a look after every `look` steps."""

    def __init__(self, ranks: int = 4, noise: float = 0.05, waits: bool = True, look: int = 20) -> None:
        self.rows = [[0.0] * 5 for _ in range(ranks)]  # tokens, input, own, wait, save
        self.noise, self.waits, self.look, self.random = noise, waits, look, random.Random(7)
        self.stragglers, self.steps = Stragglers(), 0
        self.said: list[Verdict] = []
        self._read()

    def train(self, steps: int, change: Change | None = None) -> list[Verdict]:
        """Make some steps, each changed; return what is said meanwhile."""
        before = len(self.said)
        for _ in range(steps):
            step = Step(self.steps, len(self.rows), self.noise, self.random)
            if change:
                change(step)
            self._meet(step)
            self.steps += 1
            if self.steps % self.look == 0:
                self._read()
        return self.said[before:]

    def _meet(self, step: Step) -> None:
        work = [sum(parts) for parts in zip(step.own, step.input, step.save)]
        for rank, row in enumerate(self.rows):
            wait = max(work) - work[rank] + step.collective
            for place, value in enumerate(
                (step.tokens[rank], step.input[rank], step.own[rank], wait, step.save[rank])
            ):
                row[place] += value

    def _read(self) -> None:
        readings = {}
        for rank, (tokens, reading, own, wait, save) in enumerate(self.rows):
            told = (own, wait, save) if self.waits else (own + wait, None, save)
            counters = Counters(0.0, self.steps, self.steps, int(tokens), reading, *told)
            readings[rank] = Reading(self.steps, counters)
        verdict = self.stragglers.look(readings)
        self.said += [verdict] if verdict else []


def own_time(rank: int, factor: float) -> Change:
    def change(step: Step) -> None:
        step.own[rank] *= factor

    return change


def reading(ranks: Sequence[int], seconds: float) -> Change:
    def change(step: Step) -> None:
        for rank in ranks:
            step.input[rank] += seconds

    return change


def collective(step: Step) -> None:
    step.collective += 0.004


def in_turn(step: Step) -> None:
    step.input[step.random.randrange(len(step.input))] += 0.006


def late_in_turn(step: Step) -> None:
    step.own[step.random.randrange(len(step.own))] += 0.006


def everything(step: Step) -> None:
    step.own = [own * 1.5 for own in step.own]


@pytest.mark.parametrize("ranks", [2, 3, 4, 16])
def test_a_rank_that_works_longer_is_said_once_with_its_price(ranks: int) -> None:
    run = Ranks(ranks, noise=0.01)
    assert run.train(300) == []
    said = run.train(300, own_time(1, 1.5))
    assert [(verdict.kind, verdict.ranks, verdict.since) for verdict in said] == [("slow rank", {1}, 300)]
    assert said[0].cost == pytest.approx(5 / 17, abs=0.03)
    assert said[0].text == f"rank 1 costs the run {said[0].cost * 100:.0f} %: own work, since step 300"


@pytest.mark.parametrize(
    ("change", "kind", "ranks", "price"),
    [
        (own_time(2, 1.4), "slow rank", {2}, 0.25),
        (own_time(2, 10), "slow rank", {2}, 0.88),
        (reading([3], 0.003), "slow input", {3}, 0.2),
        (reading([0, 1, 2, 3], 0.003), "slow input", set(), 0.2),
        (in_turn, "slow input", set(), 0.32),
        (collective, "slow collective", set(), 0.25),
        (everything, "slower than before", set(), 0.29),
    ],
)
@pytest.mark.parametrize("look", [20, 50])
def test_each_cause_is_told_from_the_others(
    change: Change, kind: str, ranks: set[int], price: float, look: int
) -> None:
    run = Ranks(look=look)
    assert run.train(300) == []
    said = run.train(300, change)
    assert {(verdict.kind, verdict.ranks) for verdict in said} == {(kind, frozenset(ranks))}
    assert said[-1].cost == pytest.approx(price, abs=0.06)
