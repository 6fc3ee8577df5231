"""CMRC 2018's own layout: context_text, query_id, answers as texts that do not say where they begin.

Its questions can be answered and scored, not learned. Standard library only.
"""

from __future__ import annotations

from typing import Any, Mapping


def in_squads_layout(document: Any) -> Any:
    """Bring a list of CMRC's entries into SQuAD's layout; anything else stays as it is."""
    if not isinstance(document, list) or not document:
        return document
    if not all(isinstance(entry, dict) and "context_text" in entry for entry in document):
        return document
    return [{"paragraphs": [_paragraph(entry)]} for entry in document]


def _paragraph(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Bring one entry into SQuAD's layout; what is not as expected stays, for the reader to name."""
    held = entry.get("qas")
    questions = [_question(question) for question in held] if isinstance(held, list) else held
    return {"context": entry["context_text"], "qas": questions}


def _question(question: Any) -> Any:
    if not isinstance(question, dict):
        return question
    found = {"id": question.get("query_id"), "question": question.get("query_text")}
    if "answers" not in question:  # as in a test file
        return found
    answers = question["answers"]
    if isinstance(answers, list):
        answers = [{"text": _text(text), "answer_start": -1} for text in answers]
    return {**found, "answers": answers}


def _text(value: Any) -> Any:
    """Write a number as text: the dev file has some among its answers, such as 4.9."""
    return str(value) if type(value) in (int, float) else value
