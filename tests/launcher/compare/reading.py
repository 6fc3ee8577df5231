"""What the tests of logs ask of a curve."""

from __future__ import annotations

from typing import Any, Callable

from launcher.compare.curve import Curve

Reader = Callable[..., Curve]


def losses(curve: Curve) -> list[tuple[Any, Any]]:
    return [(point.step, point.loss) for point in curve.points if point.loss is not None]


def rates(curve: Curve) -> list[Any]:
    return [point.rate for point in curve.points if point.rate is not None]


def told(curve: Curve) -> str:
    return "; ".join(curve.notes)


def estimator(*rows: tuple[int, Any], head: str = "INFO:tensorflow:") -> list[str]:
    return [f"{head}loss = {loss}, step = {step} (1.5 sec)" for step, loss in rows]
