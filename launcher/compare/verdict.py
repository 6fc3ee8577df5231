"""Whether one run is as good as another, by the rules that Huawei publishes.

Loss, early and late: not aligned where the mean relative error of the first steps, or that of the late part,
is above 1 % (MindStudio msprobe, docs/en/wiki/train_debug_guide.md 1.3, 2.3.1.2 and 2.3.1.3).

Fine-tuning: accepted where the mean over the steps of abs(loss_npu - loss_gpu) is below 2 % (verl,
docs/ascend/ascend.md, and issue 332 there; OpenRLHF's Ascend README). The formula is absolute though it is
called per cent: 0.02 of the loss's own unit. The relative mean is printed beside it.

NaN and spikes: not more often than in the benchmark. The task: not worse where the loss is equal (the same
guide; it has no numbers, those here are ours). The benchmark: three trainings that agree at least, else it is
none (hiascend, TensorFlow 1.15 migration, tfmigr2_000043).
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Sequence

from launcher.compare.answers import tail
from launcher.compare.figures import Error, LossFigures, Oddities

RELATIVE = 0.01  # pre-training: the mean relative error, early and late
ABSOLUTE = 0.02  # fine-tuning: the mean absolute error
CHANCE = 0.05  # more spikes than A has are chance down to this probability
POINTS = 2.0  # of EM and F1: runs that differ by their seeds alone are up to this far apart
BENCHMARK_RUNS = 3

PASS, FAIL, NOT_JUDGED = "pass", "fail", "not judged"


class Rule(NamedTuple):
    """A rule, its outcome (pass, fail, not judged), and the figures that decided."""

    name: str
    outcome: str
    figures: str


def chosen(wanted: str, *scores: Mapping[str, float]) -> tuple[str, str]:
    """Choose the rule of the loss, "pretrain" or "finetune", and say why."""
    if wanted:
        return wanted, "as asked"
    if any(scores):
        return "finetune", "a side has scores of a task; --rule pretrain chooses the other"
    return "pretrain", "no side has scores of a task; --rule finetune chooses the other"


def judge(
    rule: str,
    loss: LossFigures,
    problem: str,
    scores: tuple[Mapping[str, float], Mapping[str, float]],
    names: tuple[str, str] = ("A", "B"),
    benchmark: Sequence[Error] = (),
) -> tuple[Rule, ...]:
    """Judge the second run by the first.

    rule: pretrain or finetune. problem: why the losses are not aligned. benchmark: of each run of the
    benchmark its error against their mean; none where there is but one.
    """
    means = {
        "pretrain": (("loss early", loss.early, "relative"), ("loss late", loss.late, "relative")),
        "finetune": (("loss of fine-tuning", loss.whole, "absolute"),),
    }[rule]
    return (
        *(_mean(name, error, kind, names, problem) for name, error, kind in means),
        _not_finite(loss.a, loss.b, names),
        _spikes(loss.a, loss.b, names),
        _task(*scores),
        _benchmark(benchmark),
    )


def outcome(rules: tuple[Rule, ...]) -> str:
    """Return fail where a rule fails, pass where one on the loss or the task passes, else not judged."""
    found = {rule.outcome for rule in rules}
    if FAIL in found:
        return FAIL
    return (
        PASS
        if any(rule.outcome == PASS and rule.name[:4] in ("loss", "task") for rule in rules)
        else NOT_JUDGED
    )


def _mean(name: str, error: Error, kind: str, names: tuple[str, str], problem: str) -> Rule:
    relative = kind == "relative"
    value = error.relative if relative else error.absolute
    limit = f"at most {RELATIVE:.0%}" if relative else f"below {ABSOLUTE}"
    if problem or error.places == 0:
        return Rule(name, NOT_JUDGED, problem or "one place in common is too few")
    if error.only_b:
        return Rule(
            name, FAIL, f"at {error.only_b} of {error.places} places {names[1]} alone is NaN or infinite"
        )
    if value is None:
        return Rule(name, NOT_JUDGED, f"no place of {error.places} has a {kind} error")
    a, b = names
    formulas = f"mean |{b} - {a}| / |{a}| {percent(error.relative)}, mean |{b} - {a}| {plain(error.absolute)}"
    passes = value <= RELATIVE if relative else value < ABSOLUTE
    text = f"{formulas} over {error.places} places ({kind}: {limit})"
    return Rule(name, PASS if passes else FAIL, text)


def percent(value: float | None) -> str:
    """Write a share in per cent."""
    return "-" if value is None else f"{100 * value:.3g}%"


def plain(value: float | None) -> str:
    """Write a figure in its own unit."""
    return "-" if value is None else f"{value:.5g}"


def _counts(names: tuple[str, str], a: tuple[int, int], b: tuple[int, int]) -> str:
    return f"{names[0]} {a[0]} of {a[1]} points, {names[1]} {b[0]} of {b[1]}"


def _not_finite(a: Oddities, b: Oddities, names: tuple[str, str]) -> Rule:
    text = _counts(names, (a.not_finite, a.points), (b.not_finite, b.points))
    if not a.points or not b.points:
        return Rule("NaN", NOT_JUDGED, "a side holds no loss")
    passes = b.not_finite * a.points <= a.not_finite * b.points
    return Rule("NaN", PASS if passes else FAIL, text)


def _spikes(a: Oddities, b: Oddities, names: tuple[str, str]) -> Rule:
    """More spikes are a failure where chance alone makes so many, or more, of all with less than CHANCE."""
    if not a.points or not b.points:
        return Rule("spikes", NOT_JUDGED, "a side holds no loss")
    text = _counts(names, (a.spikes, a.points), (b.spikes, b.points))
    if b.spikes * a.points <= a.spikes * b.points:
        return Rule("spikes", PASS, text)
    chance = tail(a.spikes, a.spikes + b.spikes, a.points / (a.points + b.points))
    return Rule("spikes", FAIL if chance < CHANCE else PASS, f"{text}; by chance with p = {chance:.2g}")


def _task(a: Mapping[str, float], b: Mapping[str, float]) -> Rule:
    final, between = ("exact", "f1"), ("eval_exact", "eval_f1")
    shared = [name for name in final if name in a and name in b]
    shared = shared or [name for name in between if name in a and name in b]
    if not shared:
        return Rule("task", NOT_JUDGED, "EM and F1 are not known on both sides")
    text = ", ".join(f"{name} {b[name] - a[name]:+.3f}" for name in shared)
    worst = min(b[name] - a[name] for name in shared)
    passes = worst >= -POINTS
    return Rule(
        "task", PASS if passes else FAIL, f"{text} (at least -{POINTS:g}, by which seeds alone differ)"
    )


def _benchmark(errors: Sequence[Error]) -> Rule:
    """Three runs that agree are a benchmark; fewer are told, and fail nothing."""
    runs = max(1, len(errors))
    if runs < BENCHMARK_RUNS:
        text = f"{runs} run{'s' if runs > 1 else ''}: no benchmark by their rule, which asks for"
        return Rule("benchmark", NOT_JUDGED, f"{text} {BENCHMARK_RUNS} that agree (--baseline X,Y,Z)")
    worst = max((error.relative for error in errors if error.relative is not None), default=None)
    if worst is None:
        return Rule("benchmark", NOT_JUDGED, f"{runs} runs, whose losses cannot be compared")
    agree = worst <= RELATIVE and not any(error.only_a or error.only_b for error in errors)
    text = f"{runs} runs, {percent(worst)} at most from their mean"
    return (
        Rule("benchmark", PASS, text)
        if agree
        else Rule("benchmark", NOT_JUDGED, f"{text}: they do not agree")
    )
