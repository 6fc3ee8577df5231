"""Small SQuAD files and vocabularies for the tests of this room."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Callable, Dict

import pytest


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """Give a vocabulary of letters, marks and a few words and word pieces."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "un", "##aff", "##able", "##s", "北"]
    tokens += list(string.ascii_lowercase) + list(string.digits) + list(string.punctuation)
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def document() -> Dict[str, Any]:
    """Give a good SQuAD 2.0 file of one paragraph with an answerable and an unanswerable question."""
    first = {"id": "q1", "question": "who", "is_impossible": False}
    first["answers"] = [{"text": "Ada Lovelace", "answer_start": 4}]
    second = {"id": "q2", "question": "where", "is_impossible": True, "answers": []}
    paragraph = {"context": "The Ada Lovelace wrote.", "qas": [first, second]}
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": [paragraph]}]}


@pytest.fixture
def squad_file(tmp_path: Path) -> Callable[[Any], str]:
    """Give a function that writes a document as JSON and returns its path."""

    def write(content: Any) -> str:
        path = tmp_path / "squad.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    return write
