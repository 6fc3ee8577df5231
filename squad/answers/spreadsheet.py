"""Write answers as a table, for those who ask with one: predictions.csv beside predictions.json."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    from squad.answers.nbest import Answers
    from squad.data.examples import Example

NAME = "predictions.csv"


def write(folder: str, examples: Sequence[Example], result: Answers) -> str:
    """Write id, question, answer and score of each question, in the file's order; return the path.

    The score is the answer's probability among the n-best, "" if it is not one of them. UTF-8 with a byte
    order mark, without which Excel reads another encoding; RFC 4180's quotes and line ends.
    """
    path = os.path.join(folder, NAME)
    with open(path + ".tmp", "w", encoding="utf-8-sig", errors="backslashreplace", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "question", "answer", "score"])
        for example in examples:
            answer = result.predictions[example.qas_id]
            table.writerow([example.qas_id, example.question_text, answer, _score(result, example, answer)])
    os.replace(path + ".tmp", path)
    return path


def _score(result: Answers, example: Example, answer: str) -> str:
    listed = result.nbest[example.qas_id]
    found = next((entry["probability"] for entry in listed if entry["text"] == answer), None)
    return "" if found is None else f"{found:.4f}"
