"""Tests and intervals for figures of several seeds: standard library, numpy where values are drawn.

Draws come from numpy's RandomState, whose stream is the same in every release, so a seed gives the same
intervals everywhere.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Sequence

if TYPE_CHECKING:
    import numpy as np

ALPHA = 0.05  # chance of an error of the first kind; intervals hold 1 - ALPHA
POWER = 0.8
_BLOCK = 64  # resamples that are computed at once; a change would change the stream of draws
_TRIALS = 20000  # of a simulation of power
_ROUNDED = 1e-12  # of a figure: what two numbers may differ by that were rounded and subtracted


class Summary(NamedTuple):
    """Figures of n seeds. sd: with n - 1; None, as low and high, for one seed."""

    n: int
    mean: float
    sd: float | None
    low: float | None  # of the 95 % interval of the mean
    high: float | None


class Difference(NamedTuple):
    """A difference, second minus first, its 95 % interval and the two-sided p."""

    difference: float
    low: float
    high: float
    p: float


class Discordant(NamedTuple):
    """McNemar's exact test: questions that one side alone answers rightly, and the two-sided p."""

    only_first: int
    only_second: int
    p: float


def t_tail(t: float, df: float) -> float:
    """Return P(|T| > t) of Student's t: the incomplete beta function I_x(df/2, 1/2), x = df/(df + t^2).

    (Abramowitz and Stegun, 26.7.1 and 26.5.27.)
    """
    return 1.0 if t == 0 else _beta(df / (df + t * t), df / 2, 0.5)


def t_quantile(df: float, alpha: float = ALPHA) -> float:
    """Return the t that is exceeded on both sides together with probability alpha."""
    low, high = 0.0, 1.0
    while t_tail(high, df) > alpha:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_tail(middle, df) > alpha else (low, middle)
    return high


def _beta(x: float, a: float, b: float) -> float:
    """Compute the regularised incomplete beta function by its continued fraction (A&S 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # there the fraction of the complement converges faster
        return 1 - _beta(1 - x, b, a)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    # The fraction is evaluated from its end; the terms needed grow with the root of the larger parameter.
    value = 1.0
    for m in range(60 + int(6 * math.sqrt(max(a, b))), 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        value = 1 + even / (1 + odd / value)
    return math.exp(log) / (a * (1 - (a + b) * x / (a + 1) / value))


def summary(values: Sequence[float]) -> Summary:
    """Summarise: mean -/+ t(n - 1) sd / sqrt(n), with Student's t."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None, None, None)
    sd = math.sqrt(_variance(values))
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def _variance(values: Sequence[float]) -> float:
    if len(set(values)) == 1:  # exactly 0: the mean may be rounded to another number
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def welch(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """Compare two means of seeds by Welch's t test: unequal variances, Satterthwaite's degrees of freedom.

    One value beside several is taken as one more draw of the same variance, so its interval is that of a
    prediction. None: no value scatters, so there is no chance to tell the difference from. ValueError: one
    value on each side, which leaves no variance to compare with.
    """
    n, m = len(first), len(second)
    difference = math.fsum(second) / m - math.fsum(first) / n
    if min(n, m) > 1:
        a, b = _variance(first) / n, _variance(second) / m
        square, df = a + b, float(n + m - 2)
        if square > 0:
            df = square**2 / (a**2 / (n - 1) + b**2 / (m - 1))
    elif max(n, m) > 1:
        several = first if n > 1 else second
        square, df = _variance(several) * (1 + 1 / len(several)), float(len(several) - 1)
    else:
        raise ValueError("one value on each side")
    error = math.sqrt(square)
    if error == 0:
        return None
    half = t_quantile(df) * error
    return Difference(difference, difference - half, difference + half, t_tail(abs(difference) / error, df))


def paired(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """Compare two means of the same seeds, in the same order, by the t test of their differences.

    What a seed does to both sides cancels. None: all differences are equal, so there is no chance to tell
    their mean from.
    """
    found = summary([b - a for a, b in zip(first, second)])
    rounded = _ROUNDED * max(map(abs, (*first, *second)))  # differences that are equal may not be so exactly
    if not found.sd or found.sd <= rounded or found.low is None or found.high is None:
        return None
    p = t_tail(abs(found.mean) / found.sd * math.sqrt(found.n), found.n - 1)
    return Difference(found.mean, found.low, found.high, p)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> Discordant:
    """Compare two sides question by question: the two-sided binomial test of the discordant pairs, exact.

    It takes the questions as independent.
    """
    only_first = sum(a and not b for a, b in zip(first, second))
    only_second = sum(b and not a for a, b in zip(first, second))
    total = only_first + only_second
    ways, below = 1, 0  # of choosing k of them; the sum up to the smaller count
    for k in range(min(only_first, only_second) + 1):
        below += ways
        ways = ways * (total - k) // (k + 1)
    return Discordant(only_first, only_second, min(1.0, 2 * below / 2**total if total else 1.0))


def majority(rows: Sequence[Sequence[float]]) -> list[bool]:
    """Tell for each question whether more than half of the seeds (rows) answer it rightly.

    McNemar's test may compare two such majorities if they are of equally many seeds: of more seeds a majority
    is right more often where a seed is right more often than not. ValueError: an even number of rows, which
    may be divided evenly.
    """
    if len(rows) % 2 == 0:
        raise ValueError(f"no majority of {len(rows)}")
    return [2 * math.fsum(values) > len(rows) for values in zip(*rows)]


def bootstrap(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    groups: Sequence[int],
    resamples: int,
    seed: int,
) -> Difference:
    """Compare two means over questions and seeds by a paired bootstrap.

    Each resample draws groups of questions (the same for both sides), and of either side as many seeds as it
    has, all with replacement. The interval holds the middle 95 % of the differences; p is twice the smaller
    share of differences not above or not below 0, with one added to the count and to the resamples.

    Args:
        first, second: a row of values for each seed, a column for each question.
        groups: the group of each question, 0 to k - 1; a group is drawn as a whole.
    """
    import numpy as np

    draws = np.random.RandomState(seed)
    sizes = np.bincount(groups).astype(float)
    sides = [np.array([np.bincount(groups, row, len(sizes)) for row in rows]) for rows in (first, second)]
    found = []
    for begin in range(0, resamples, _BLOCK):
        count = min(_BLOCK, resamples - begin)
        picked = _counts(draws, count, len(sizes))
        means = [((picked @ sums.T) * _counts(draws, count, len(sums))).sum(1) / len(sums) for sums in sides]
        found.append((means[1] - means[0]) / (picked @ sizes))
    # What matrix libraries add up in another order must not decide whether a difference is 0.
    differences = np.round(np.concatenate(found), 12)
    less = 1 + min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    low, high = np.percentile(differences, [50 * ALPHA, 100 - 50 * ALPHA])
    observed = float(sides[1].mean(0).sum() - sides[0].mean(0).sum()) / len(groups)
    return Difference(observed, float(low), float(high), min(1.0, 2 * less / (resamples + 1)))


def _counts(draws: np.random.RandomState, rows: int, size: int) -> np.ndarray:
    """Draw `size` of `size` with replacement, `rows` times; return how often each was drawn."""
    import numpy as np

    picked = draws.randint(size, size=(rows, size)) + size * np.arange(rows)[:, None]
    return np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size)


def detectable(sd: float, n: int, m: int, power: float = POWER) -> float:
    """Return the difference that Welch's test of n and m seeds of this sd finds with probability `power`.

    By simulation of normal figures; n and m are 2 at least.
    """
    return sd * _detectable(n, m, power)


def detectable_by_pairs(sd: float, n: int, power: float = POWER) -> float:
    """Return the difference that the paired test of n seeds finds, whose differences have this sd."""
    return sd * _detectable_by_pairs(n, power)


@lru_cache()
def _detectable_by_pairs(n: int, power: float) -> float:
    import numpy as np

    values = np.random.RandomState(0).standard_normal((_TRIALS, n))
    limits = t_quantile(n - 1) * values.std(1, ddof=1) / math.sqrt(n)
    return _least(values.mean(1), limits, power)


def _least(noise: np.ndarray, limits: np.ndarray, power: float) -> float:
    """Return the least difference that goes beyond the limits in so large a share of the trials."""
    low, high = 0.0, 1000.0
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        seen = (abs(noise + middle) > limits).mean()
        low, high = (middle, high) if seen < power else (low, middle)
    return high


@lru_cache()
def _detectable(n: int, m: int, power: float) -> float:
    """Return it in standard deviations."""
    import numpy as np

    draws = np.random.RandomState(0)
    means, squares = [], []
    for count in (n, m):
        values = draws.standard_normal((_TRIALS, count))
        means.append(values.mean(1))
        squares.append(values.var(1, ddof=1) / count)
    square = squares[0] + squares[1]
    dfs = square**2 / (squares[0] ** 2 / (n - 1) + squares[1] ** 2 / (m - 1))
    grid = np.linspace(min(n, m) - 1, n + m - 2, 33)
    limits = np.interp(dfs, grid, [t_quantile(df) for df in grid]) * np.sqrt(square)
    return _least(means[1] - means[0], limits, power)
