"""Slow something down in real ranks, and count which rules find it, which blame others, and what they say.

python benchmarks/stragglers.py [--runs 12] [--seed 1] [--clean 60] [--beside 10]

Each run is some processes that work, wait for input, and meet at a barrier each step; after two fifths of the
steps something goes wrong. Work is sleeping (many runs side by side) or a loop that needs a core. A run takes
5 to 18 seconds of an idle machine. The true price is measured: how much shorter steps were before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.straggler_rules import OTHERS, Spent, Trace, ours

FORK = multiprocessing.get_context("fork")
OWN, COLLECTIVE, INPUT = 0.018, 0.002, 0.0005  # seconds of a step that nothing slows
STEPS = {"sleep": 600, "loop": 240}

# What is injected: kind of work, and the verdict that is right ("": none).
KINDS = {
    "clean, sleeping": ("sleep", ""),
    "clean, on the cores": ("loop", ""),
    "clean, a busy neighbour": ("loop", ""),
    "own work": ("sleep", "slow rank"),
    "stopped and continued": ("loop", "slow rank"),
    "pinned beside a busy core": ("loop", "slow rank"),
    "input of a rank": ("sleep", "slow input"),
    "input of all": ("sleep", "slow input"),
    "input in turn": ("sleep", "slow input"),
    "collective": ("sleep", "slow collective"),
    "all": ("sleep", "slower than before"),
}
OF_A_RANK = ("own work", "stopped and continued", "pinned beside a busy core", "input of a rank")


class Case(NamedTuple):
    """One run: what is injected from `begin` on, how strongly, into which rank."""

    kind: str
    ranks: int
    culprit: int
    strength: float  # of own time, or of the time stopped
    begin: int
    seed: int

    @property
    def truth(self) -> frozenset[int]:
        return frozenset({self.culprit}) if self.kind in OF_A_RANK else frozenset()


def draw(kind: str, seed: int) -> Case:
    """Draw a run of a kind."""
    chance = random.Random(f"{kind} {seed}")
    ranks = 2 if KINDS[kind][0] == "loop" else chance.choice((2, 3, 4))
    strength = chance.uniform(0.4, 0.6) if kind == "stopped and continued" else chance.uniform(0.4, 1.2)
    begin = STEPS[KINDS[kind][0]] * 2 // 5
    return Case(kind, ranks, chance.randrange(ranks), strength, begin, seed)


def spin(loops: int) -> None:
    for _ in range(loops):
        pass


def loops_of(seconds: float) -> int:
    """Return how many loops take so long on an idle core."""
    best = float("inf")
    for _ in range(20):
        begin = time.perf_counter()
        spin(100_000)
        best = min(best, time.perf_counter() - begin)
    return int(seconds / best * 100_000)


def rank_of(case: Case, rank: int, barrier: Any, begun: Any, loops: int, results: Any) -> None:
    """Run one rank; put its seconds of each step."""
    chance, shared = random.Random(case.seed * 100 + rank), random.Random(case.seed)
    spent = []
    for step in range(STEPS[KINDS[case.kind][0]]):
        wrong, turn = step >= case.begin, shared.randrange(case.ranks)
        if step == case.begin and rank == case.culprit:
            begun.set()
        extra = OWN * case.strength if wrong else 0.0
        times = [time.perf_counter()]
        late = case.kind == "input of all" or (case.kind, rank) in (
            ("input of a rank", case.culprit),
            ("input in turn", turn),
        )
        time.sleep(INPUT + (extra if late else 0.0))
        times.append(time.perf_counter())
        if loops:
            spin(int(loops * chance.uniform(0.95, 1.05)))
        else:
            slow = case.kind == "all" or (case.kind == "own work" and rank == case.culprit)
            time.sleep(OWN * chance.uniform(0.9, 1.1) + (extra if slow else 0.0))
        times.append(time.perf_counter())
        barrier.wait()
        time.sleep(COLLECTIVE + (extra if case.kind == "collective" else 0.0))
        times.append(time.perf_counter())
        spent.append([after - before for before, after in zip(times, times[1:])])
    results.put((rank, spent))


def burn(cores: set[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)
    while True:
        spin(1_000_000)


def disturb(case: Case, ranks: list[Any], begun: Any, ended: threading.Event, burners: list[Any]) -> None:
    """Do from outside what is to go wrong, once the run is there."""
    begun.wait()
    pid = ranks[case.culprit].pid
    if case.kind == "pinned beside a busy core":
        burners.append(FORK.Process(target=burn, args=({case.culprit},), daemon=True))
        burners[-1].start()
    while case.kind == "stopped and continued" and not ended.is_set() and ranks[case.culprit].is_alive():
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05 * case.strength)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05 * (1 - case.strength))


def record(case: Case, loops: int) -> Trace:
    """Run the ranks and return what they measured."""
    barrier, begun, results = FORK.Barrier(case.ranks), FORK.Event(), FORK.Queue()
    ranks = [
        FORK.Process(target=rank_of, args=(case, rank, barrier, begun, loops, results), daemon=True)
        for rank in range(case.ranks)
    ]
    burners: list[Any] = []
    if case.kind == "clean, a busy neighbour":
        burners.append(FORK.Process(target=burn, args=(set(),), daemon=True))
    for process in (*burners, *ranks):
        process.start()
    if case.kind == "pinned beside a busy core":
        for rank, process in enumerate(ranks):
            os.sched_setaffinity(process.pid, {rank})
    ended = threading.Event()
    thread = threading.Thread(target=disturb, args=(case, ranks, begun, ended, burners), daemon=True)
    thread.start()
    rows = dict(results.get(timeout=120) for _ in ranks)
    ended.set()
    thread.join()
    for process in burners:
        process.kill()
    for process in ranks:
        process.join()
    return Trace([[Spent(*spent) for spent in rows[rank]] for rank in range(case.ranks)], case.begin)


def measured_price(trace: Trace) -> float:
    """Return the part of the time of a step that was not there before."""
    steps = [sum(spent) for spent in trace.ranks[0]]
    before, since = steps[20 : trace.begin], steps[trace.begin + 5 :]
    return 1 - (sum(before) / len(before)) / (sum(since) / len(since))


class Outcome(NamedTuple):
    """What a rule said of a run: "right", "wrong" or "silent"."""

    case: Case
    said: str
    error: float | None = None


def judge_ours(case: Case, trace: Trace) -> tuple[Outcome, str]:
    verdicts = [verdict for verdict in ours(trace) if verdict.cost]
    if not verdicts:
        return Outcome(case, "silent"), ""
    right = all(verdict.ranks == case.truth and verdict.kind == KINDS[case.kind][1] for verdict in verdicts)
    error = abs(verdicts[-1].cost - measured_price(trace)) if right else None
    return Outcome(case, "right" if right else "wrong", error), "; ".join(one.text for one in verdicts)


def judge_other(case: Case, trace: Trace, rule: Any) -> Outcome:
    """Let a rule name who it names most often; a run without a culprit has none to name."""
    named = Counter(found for found in rule(trace) if found)
    if not named:
        return Outcome(case, "silent")
    return Outcome(case, "right" if named.most_common(1)[0][0] == case.truth else "wrong")


def table(outcomes: dict[str, list[Outcome]]) -> list[str]:
    """Render what was found."""
    lines = [
        "| rule | false alarms in clean runs | a rank's fault: found | another blamed | no rank's fault: "
        "found | a rank or another cause blamed | precision | recall "
        "| error of the price where work is sleeping, points: median, most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for rule, found in outcomes.items():
        groups = {
            name: [one for one in found if place(one.case) == name] for name in ("clean", "rank", "run")
        }
        count = {
            (name, said): sum(one.said == said for one in group)
            for name, group in groups.items()
            for said in ("right", "wrong", "silent")
        }
        alarms = len(groups["clean"]) - count["clean", "silent"]
        right = count["rank", "right"] + count["run", "right"]
        faults = len(groups["rank"]) + (len(groups["run"]) if rule == "ours" else 0)
        wrong = alarms + count["rank", "wrong"] + count["run", "wrong"]
        errors = sorted(one.error * 100 for one in found if one.error is not None and sleeps(one.case))
        price = f"{errors[len(errors) // 2]:.1f}, {errors[-1]:.1f}" if errors else "states none"
        run_found = f"{count['run', 'right']} of {len(groups['run'])}" if rule == "ours" else "-"
        lines.append(
            f"| {rule} | {alarms} of {len(groups['clean'])} "
            f"| {count['rank', 'right']} of {len(groups['rank'])} "
            f"| {count['rank', 'wrong']} | {run_found} | {count['run', 'wrong']} "
            f"| {right / max(1, right + wrong):.2f} | {right / max(1, faults):.2f} | {price} |"
        )
    return lines


def sleeps(case: Case) -> bool:
    """Tell whether nothing but what was injected can have made the steps longer."""
    return KINDS[case.kind][0] == "sleep"


def place(case: Case) -> str:
    return "clean" if not KINDS[case.kind][1] else "rank" if case.truth else "run"


def by_kind(found: list[Outcome]) -> list[str]:
    """Render our verdicts by what was injected."""
    lines = [
        "| injected | runs | right | wrong | silent | error of the price, points |",
        "|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        rows = [one for one in found if one.case.kind == kind]
        errors = sorted(one.error * 100 for one in rows if one.error is not None)
        said = Counter(one.said for one in rows)
        price = f"{errors[len(errors) // 2]:.1f}, {errors[-1]:.1f}" if errors else "-"
        lines.append(
            f"| {kind} | {len(rows)} | {said['right']} | {said['wrong']} | {said['silent']} | {price} |"
        )
    return lines


def main() -> None:
    """Record, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=12, help="runs of each kind; a third where they need a core"
    )
    parser.add_argument("--clean", type=int, default=60, help="clean runs, as well")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--beside", type=int, default=10, help="sleeping runs side by side")
    parser.add_argument(
        "--traces", help="a file that keeps the traces: a run that is in it is not made again"
    )
    args = parser.parse_args()
    counts = {
        kind: (args.runs if right else args.clean) // (1 if work == "sleep" else 3)
        for kind, (work, right) in KINDS.items()
    }
    cases = [
        draw(kind, args.seed * 1000 + number) for kind, count in counts.items() for number in range(count)
    ]
    outcomes: dict[str, list[Outcome]] = {"ours": [], **{name: [] for name in OTHERS}}
    for case, trace in recorded(cases, args.beside, args.traces):
        mine, text = judge_ours(case, trace)
        outcomes["ours"].append(mine)
        if mine.said != ("right" if KINDS[case.kind][1] else "silent"):
            price = measured_price(trace)
            print(
                f"{case.kind}, seed {case.seed}: {mine.said}, measured {price:.0%}: {text}", file=sys.stderr
            )
        for name, rule in OTHERS.items():
            outcomes[name].append(judge_other(case, trace, rule))
    print("\n".join([*table(outcomes), "", *by_kind(outcomes["ours"])]))


def recorded(cases: list[Case], beside: int, kept: str | None) -> Iterator[tuple[Case, Trace]]:
    """Record the traces, those that only sleep side by side; those that were kept are read."""
    known = {}
    for line in open(kept) if kept and os.path.exists(kept) else ():
        case, ranks = json.loads(line)
        known[Case(*case)] = Trace([[Spent(*one) for one in rank] for rank in ranks], Case(*case).begin)
    yield from ((case, known[case]) for case in cases if case in known)
    left = [case for case in cases if case not in known]
    loops = loops_of(OWN)
    with ThreadPoolExecutor(beside) as pool:
        sleeping = [case for case in left if KINDS[case.kind][0] == "sleep"]
        for case, trace in zip(sleeping, pool.map(lambda case: record(case, 0), sleeping)):
            keep(kept, case, trace)
            yield case, trace
    for case in left:
        if KINDS[case.kind][0] == "loop":
            trace = record(case, loops)
            keep(kept, case, trace)
            yield case, trace


def keep(path: str | None, case: Case, trace: Trace) -> None:
    if path:
        with open(path, "a") as stream:
            stream.write(json.dumps([case, trace.ranks]) + "\n")


if __name__ == "__main__":
    main()
