"""Draw the plots of the official evaluation script; nothing else needs matplotlib."""

from __future__ import annotations

import os
from typing import Any, Callable, Mapping, NamedTuple

from squad.errors import DataError

Figure = Any  # of matplotlib

_TITLES = {
    "pr_exact": "Precision-Recall curve for Exact Match score",
    "pr_f1": "Precision-Recall curve for F1 score",
    "pr_oracle": "Oracle Precision-Recall curve (binary task of HasAns vs. NoAns)",
}


class Curve(NamedTuple):
    """A precision-recall curve."""

    precisions: list[float]
    recalls: list[float]
    average: float  # average precision in percent


def write(
    folder: str, curves: Mapping[str, Curve], na_probs: Mapping[str, float], has_answer: Mapping[str, bool]
) -> list[str]:
    """Write pr_*.png from precision-recall curves and na_prob_hist_*.png; return the paths.

    DataError: matplotlib is not installed.
    """
    new_figure = _figure_maker()
    os.makedirs(folder, exist_ok=True)
    paths = [_precision_recall(new_figure, folder, name, curve) for name, curve in curves.items()]
    for name, wanted in (("hasAns", True), ("noAns", False)):
        values = [na_probs[key] for key, answerable in has_answer.items() if answerable == wanted]
        if values:
            paths.append(_histogram(new_figure, folder, name, values))
    return paths


def _figure_maker() -> Callable[[], Figure]:
    """Import matplotlib without pyplot, which would look for a screen."""
    try:
        from matplotlib import figure as figures
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        raise DataError("plots need matplotlib; run `pip install matplotlib`") from None

    def make() -> Figure:
        figure = figures.Figure()
        FigureCanvasAgg(figure)
        return figure

    return make


def _precision_recall(new_figure: Callable[[], Figure], folder: str, name: str, curve: Curve) -> str:
    figure = new_figure()
    axes = figure.add_subplot(1, 1, 1)
    axes.step(curve.recalls, curve.precisions, color="b", alpha=0.2, where="post")
    axes.fill_between(curve.recalls, curve.precisions, step="post", alpha=0.2, color="b")
    axes.set(xlabel="Recall", ylabel="Precision", xlim=[0.0, 1.05], ylim=[0.0, 1.05])
    axes.set_title(f"{_TITLES[name]} (AP {curve.average:.2f} %)", fontsize=10)
    return _save(figure, folder, name)


def _histogram(new_figure: Callable[[], Figure], folder: str, name: str, values: list[float]) -> str:
    """Draw 20 bins. The official range is 0 to 1; null odds are not probabilities and may lie outside it."""
    figure = new_figure()
    axes = figure.add_subplot(1, 1, 1)
    limits = (0.0, 1.0) if 0 <= min(values) and max(values) <= 1 else (min(values), max(values))
    axes.hist(values, weights=[1.0 / len(values)] * len(values), bins=20, range=limits)
    axes.set(xlabel="Model probability of no-answer", ylabel="Proportion of dataset")
    axes.set_title(f"Histogram of no-answer probability: {name}")
    return _save(figure, folder, "na_prob_hist_" + name)


def _save(figure: Figure, folder: str, name: str) -> str:
    path = os.path.join(folder, name + ".png")
    figure.savefig(path)
    return path
