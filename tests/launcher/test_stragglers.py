"""Verdicts on simulated ranks: seconds of each step are made up, a collective joins the ranks."""

from __future__ import annotations

import random
from typing import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    said = run.train(500, change)
    assert {(verdict.kind, verdict.ranks) for verdict in said} == {(kind, frozenset(ranks))}
    assert said[-1].cost == pytest.approx(price, abs=0.06)


def test_ranks_that_work_for_random_times_are_not_to_blame() -> None:
    for ranks, noise in ((2, 0.3), (4, 0.3), (16, 0.2), (64, 0.5)):
        assert Ranks(ranks, noise).train(800) == []


def test_ranks_that_are_late_in_turn_are_neither_to_blame_nor_is_the_collective() -> None:
    run = Ranks()
    run.train(300)
    assert [verdict for verdict in run.train(400, late_in_turn) if verdict.kind != "slower than before"] == []


def test_a_rank_that_gets_well_is_taken_back_and_said_anew_when_it_falls_ill_again() -> None:
    run = Ranks()
    run.train(200, own_time(3, 2))
    (over,) = run.train(200)
    assert over.cost == 0 and over.ranks == {3} and over.since == 200
    assert over.text == "rank 3 costs the run nothing any more (own work), since step 200"
    assert [verdict.since for verdict in run.train(200, own_time(3, 2))] == [400]


def test_a_price_is_said_again_when_it_has_changed_by_5_points() -> None:
    run = Ranks(noise=0.01)
    (first,) = run.train(300, own_time(1, 1.5))
    assert run.train(300, own_time(1, 1.52)) == []
    renewed = run.train(600, own_time(1, 3))
    assert renewed[-1].cost > 0.6 > first.cost and renewed[-1].since == first.since
    assert all(abs(after.cost - one.cost) >= 0.05 for one, after in zip([first, *renewed], renewed))


@pytest.mark.parametrize(
    ("culprit", "others", "price"),
    [
        (2.0, 0.7, 10 / 22),  # the others work less while this one is late: what the steps have grown by
        (2.0, 0.95, 10.5 / 22),  # no more than windows differ
        (1.0, 0.5, 5 / 12),  # all but this one have become faster: what it would gain if it were as they
    ],
)
def test_cores_that_a_late_rank_leaves_to_the_others_are_not_gained(
    culprit: float, others: float, price: float
) -> None:
    def share(step: Step) -> None:
        step.own = [own * (culprit if rank == 1 else others) for rank, own in enumerate(step.own)]

    run = Ranks(2, noise=0.01)
    assert run.train(300) == []
    (said,) = run.train(300, share)
    assert (said.kind, said.ranks) == ("slow rank", {1})
    assert said.cost == pytest.approx(price, abs=0.02)


def test_a_short_hiccup_is_no_verdict() -> None:
    run = Ranks()
    for _ in range(10):
        assert run.train(100) + run.train(40, own_time(0, 3)) == []


@pytest.mark.parametrize("same", [True, False])
def test_ranks_with_longer_rows_are_not_slow(same: bool) -> None:
    def longer(step: Step) -> None:
        long = 2 if step.number % 7 else 1
        step.tokens[2], step.own[2] = 1000 * long, step.own[2] * (long if same else 2 * long)

    assert [verdict.kind for verdict in Ranks().train(600, longer)] == ([] if same else ["slow rank"])


def test_longer_rows_on_all_ranks_are_no_slower_run() -> None:
    def longer(step: Step) -> None:
        step.tokens = [4000] * 4
        step.own = [own * 4 for own in step.own]

    run = Ranks()
    for _ in range(4):
        assert run.train(200) + run.train(200, longer) == []
    assert [verdict.kind for verdict in run.train(200, everything)] == ["slower than before"]


def test_saving_is_nobodys_fault_and_hides_nobody() -> None:
    def save(step: Step) -> None:
        step.save[0] = 0.5 if step.number % 30 == 0 else 0.0

    def save_and_lag(step: Step) -> None:
        save(step)
        step.own[2] *= 2

    run = Ranks()
    assert run.train(600, save) == []
    assert [(verdict.kind, verdict.ranks) for verdict in run.train(300, save_and_lag)] == [("slow rank", {2})]


def test_a_first_step_that_counts_is_forgotten() -> None:
    def compiles(step: Step) -> None:
        step.own = [own + (20 if step.number == 0 else 0) for own in step.own]

    run = Ranks()
    assert run.train(400, compiles) == []
    assert [verdict.kind for verdict in run.train(200, everything)] == ["slower than before"]


def test_several_slow_ranks_are_named_together() -> None:
    def two(step: Step) -> None:
        step.own[4] *= 1.6
        step.own[7] *= 1.6

    (said,) = Ranks(8, noise=0.02).train(300, two)
    assert said.text == "ranks [4,7] cost the run 33 %: own work, since step 0"


def test_where_waiting_is_not_told_only_input_and_the_step_are_judged() -> None:
    run = Ranks(waits=False)
    assert run.train(300) + run.train(200, own_time(1, 1.08)) == [] and not run.stragglers.split
    assert [(verdict.kind, verdict.ranks) for verdict in run.train(200, reading([2], 0.004))] == [
        ("slow input", {2})
    ]
    run = Ranks(waits=False)
    run.train(300)
    assert [verdict.kind for verdict in run.train(300, own_time(1, 2))] == ["slower than before"]


def test_one_rank_alone_can_be_short_of_input_or_slower_than_before() -> None:
    run = Ranks(1)
    assert run.train(300, own_time(0, 1)) == []
    assert run.train(200, reading([0], 0.01))[0].text.startswith("all ranks cost the run 46 %: input")
    run = Ranks(1)
    run.train(300)
    assert run.train(300, own_time(0, 1.5))[0].kind == "slower than before"


def test_a_counter_that_goes_back_or_a_rank_that_comes_or_goes_begins_a_new_window() -> None:
    run = Ranks()
    run.train(100)
    run.rows[1] = [0.0] * 5
    run.steps = 0
    assert run.train(100) == []
    run.rows.append([0.0] * 5)
    assert run.train(100) == []
    del run.rows[0]
    assert run.train(100) == []


def test_what_is_kept_does_not_grow_with_the_run() -> None:
    def every_length(step: Step) -> None:
        step.tokens = [1000 + 37 * (step.number // 20)] * 4

    run = Ranks()
    run.train(6000, every_length)
    stragglers = run.stragglers
    assert len(stragglers._history._usual) <= 16 and len(stragglers._history._faster) <= 16
    assert len(stragglers._blames) == 8 and len(stragglers._base) == 4


COUNTS, SECONDS = st.integers(0, 1 << 53), st.floats(0, 1e300)


@given(
    st.lists(
        st.lists(
            st.tuples(COUNTS, COUNTS, SECONDS, SECONDS, SECONDS, st.none() | SECONDS),
            min_size=1,
            max_size=4,
        ),
        max_size=8,
    )
)
def test_whatever_the_ranks_write_gives_verdicts_within_bounds(looks: list) -> None:
    stragglers = Stragglers()
    for rows in looks:
        readings = {
            rank: Reading(0, Counters(0.0, steps, 0, tokens, reading, own, wait, save))
            for rank, (steps, tokens, reading, own, save, wait) in enumerate(rows)
        }
        verdict = stragglers.look(readings)
        assert verdict is None or (0 <= verdict.cost <= 1 and verdict.text)
