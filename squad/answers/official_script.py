"""Run the official evaluation script that the user gives, and read its figures as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Mapping, Sequence

from squad.data.squad_file import load_questions
from squad.errors import DataError

if TYPE_CHECKING:
    from squad.data.questions import Question

# Figures of CMRC 2018's script, which gives them as text, under the names of SQuAD's, and what is no figure.
_NAMES = {"AVERAGE": "average", "EM": "exact", "F1": "f1", "TOTAL": "total"}
_OTHER = ("FILE", "SKIP")


def run(script: str, predict_file: str, predictions: str) -> dict[str, float]:
    """Run `python SCRIPT DEV PREDICTIONS`; return the figures that it prints.

    Raises:
        DataError: the script fails, or prints no JSON object of numbers.
    """
    command = [sys.executable, script, predict_file, predictions]
    environment = dict(os.environ, PYTHONUTF8="1")  # the scripts open files in the locale's encoding
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message on stderr"])[-1]
        raise DataError(f"{script}: failed with exit code {done.returncode}: {last}")
    brace = done.stdout.find("{")
    try:
        figures, _ = json.JSONDecoder().raw_decode(done.stdout, max(brace, 0))
        return {_NAMES.get(name, name): float(value) for name, value in figures.items() if name not in _OTHER}
    except (ValueError, TypeError, AttributeError):
        raise DataError(f"{script}: printed no JSON of figures: {done.stdout!r:.80}") from None


def standard(path: str) -> bool:
    """Tell whether a file is as the scripts read it: plain JSON of articles with paragraphs in `data`."""
    with open(path, "rb") as stream:
        plain = stream.read(64).lstrip().startswith(b"{")
    document = load_questions(path) if plain else None
    data = document.get("data") if isinstance(document, dict) else None
    return isinstance(data, list) and all(isinstance(entry, dict) and "paragraphs" in entry for entry in data)


def convert(questions: Sequence[Question], path: str) -> None:
    """Write questions in that layout: what the scripts read of it, ids and the texts of answers."""
    listed = [
        {"id": question.id, "answers": [{"text": answer.text} for answer in question.answers or ()]}
        for question in questions
    ]
    document = {"version": "v2.0", "data": [{"title": "", "paragraphs": [{"context": "", "qas": listed}]}]}
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(document, stream)


def differences(ours: Mapping[str, float], theirs: Mapping[str, float]) -> list[str]:
    """List the figures that both have and that differ: ["f1: ours 76.1, theirs 76.2"]."""
    tolerance = 6e-4 if "average" in theirs else 1e-9  # CMRC's script prints three decimals
    return [
        f"{name}: ours {ours[name]!r}, theirs {theirs[name]!r}"
        for name in ours
        if name in theirs and abs(ours[name] - theirs[name]) > tolerance
    ]
