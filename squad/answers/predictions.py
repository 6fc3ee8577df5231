"""The answers of a file's questions, and beside them the answers that a threshold has emptied."""

from __future__ import annotations

from typing import Dict


class Predictions(Dict[str, str]):
    """Question id to text, as predictions.json holds it; "" is no answer.

    `best` has every question's best answer that is not empty, whatever the threshold. The best thresholds are
    searched over these: an answer that the threshold of the run has emptied counts again at a higher one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.best: dict[str, str] = {}
