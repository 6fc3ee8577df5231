"""One run beside a benchmark: everything that is compared, and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

from launcher.compare import answers as predictions
from launcher.compare import settings, verdict
from launcher.compare.align import Aligned, align
from launcher.compare.answers import AnswerFigures
from launcher.compare.baseline import Band, benchmark, share_within
from launcher.compare.curve import Curve
from launcher.compare.figures import LossFigures, loss_figures
from launcher.compare.rates import RateFigures, compare_rates
from launcher.compare.said import Said
from launcher.compare.settings import Difference
from launcher.compare.verdict import Rule
from launcher.errors import ReadError

MEAN = "mean"  # what a benchmark of several runs is called


class Side(NamedTuple):
    """A run or log, as it was read.

    name: the letter by which it is called. word: as the user gave it. predictions: a file, if there is one.
    said: by the launcher, of a run of ours.
    """

    name: str
    word: str
    curve: Curve
    settings: Mapping[str, str] = {}
    versions: Mapping[str, str] = {}
    predictions: Path | None = None
    said: Said = Said()


class Comparison(NamedTuple):
    """What came out of comparing b with a. members: the runs whose mean a is, where it is several."""

    a: Side
    b: Side
    members: tuple[Side, ...]
    band: tuple[Band, ...]
    within: float | None  # the share of b's places in the band
    differences: tuple[Difference, ...]
    aligned: Aligned
    loss: LossFigures
    rates: RateFigures
    answers: AnswerFigures | None
    notes: tuple[str, ...]
    rule: str
    why: str
    rules: tuple[Rule, ...]

    @property
    def outcome(self) -> str:
        """pass, fail or not judged."""
        return verdict.outcome(self.rules)


def compare(baseline: Sequence[Side], other: Side, rule: str = "", truth: Path | None = None) -> Comparison:
    """Compare a run with a benchmark of one run or several.

    rule: pretrain, finetune, or "" to choose by what there is. truth: a SQuAD file with the true answers.
    """
    mean = benchmark([side.curve for side in baseline], [side.name for side in baseline])
    several = len(baseline) > 1
    a = baseline[0]._replace(curve=mean.curve, predictions=None if several else baseline[0].predictions)
    if mean.band:
        a = a._replace(name=MEAN, word=", ".join(side.word for side in baseline), said=Said())
    names = a.name, other.name
    aligned = align(a.curve, other.curve, names)
    loss = loss_figures(aligned)
    answers, notes = _answers(a, other, truth)
    rule, why = verdict.chosen(rule, a.curve.scores, other.curve.scores)
    scores = a.curve.scores, other.curve.scores
    return Comparison(
        a=a,
        b=other,
        members=tuple(baseline) if several else (),
        band=mean.band,
        within=share_within(mean.band, aligned),
        differences=(
            *settings.differences("setting", _sizes(a.curve), _sizes(other.curve)),
            *settings.differences("setting", _settings(a), _settings(other)),
            *settings.differences("version", a.versions, other.versions),
        ),
        aligned=aligned,
        loss=loss,
        rates=compare_rates(a.curve, other.curve, names),
        answers=answers,
        notes=tuple(notes),
        rule=rule,
        why=why,
        rules=verdict.judge(rule, loss, aligned.problem, scores, names, mean.errors),
    )


def _sizes(curve: Curve) -> dict[str, str]:
    sizes = {"devices": curve.ranks, "global batch": curve.global_batch}
    return {name: str(size) for name, size in sizes.items() if size}


def _settings(side: Side) -> dict[str, str]:
    return settings.masked({**side.curve.settings, **side.settings})


def _answers(a: Side, b: Side, truth: Path | None) -> tuple[AnswerFigures | None, list[str]]:
    """Compare the predictions where both have them; say what could not be read."""
    lacking = [side.name for side in (a, b) if side.predictions is None]
    if lacking:
        told = f"the answers are not compared: {lacking[0]} has no predictions.json"
        return None, [told] if len(lacking) == 1 else []
    try:
        first, second = (predictions.read_answers(side.predictions) for side in (a, b) if side.predictions)
    except ReadError as error:
        return None, [f"the answers are not compared: {error}"]
    known, notes = None, []
    if truth is not None:
        try:
            known = predictions.read_truth(truth)
        except ReadError as error:
            notes.append(f"the true answers are not known: {error}")
    return predictions.compare_answers(first, second, known), notes
