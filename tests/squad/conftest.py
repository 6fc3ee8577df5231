"""Small SQuAD files and vocabularies for the tests of this room."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Callable

import pytest

from squad.run_squad import main


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """Give a vocabulary of letters, marks and a few words and word pieces."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "un", "##aff", "##able", "##s", "北"]
    tokens += list(string.ascii_lowercase) + list(string.digits) + list(string.punctuation)
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def document() -> dict[str, Any]:
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


CONFIG = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 192,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3,  # large, so that an untrained model prefers some answers
}


def squad_document(first: int, passages: int) -> dict[str, Any]:
    """Make passages about numbered people; two questions each, one of them without an answer."""
    paragraphs = []
    for number in range(first, first + passages):
        name = "mr {}".format("".join(string.ascii_lowercase[int(digit)] for digit in f"{number:03d}"))
        filler = "a quiet man who liked long walks " * (1 + number % 3)
        context = f"{name}, {filler}was born in {1000 + number}."
        answer = {"text": str(1000 + number), "answer_start": context.index(str(1000 + number))}
        questions = [
            {"id": f"q{number}", "question": f"when was {name} born?", "answers": [answer]},
            {"id": f"n{number}", "question": f"when did {name} die?", "answers": []},
        ]
        for question in questions:
            question["is_impossible"] = not question["answers"]
        paragraphs.append({"context": context, "qas": questions})
    return {"version": "v2.0", "data": [{"title": "people", "paragraphs": paragraphs}]}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a tiny job."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def make_tiny(folder: Path) -> Path:
    """Write train.json, dev.json, a vocabulary of letters and a tiny BERT's configuration."""
    (folder / "train.json").write_text(json.dumps(squad_document(0, 12)))
    (folder / "dev.json").write_text(json.dumps(squad_document(500, 5)))
    marks = list(string.ascii_lowercase + string.digits)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", "?", *marks]
    tokens += ["##" + mark for mark in marks] + ["when", "was", "born", "did", "die", "mr", "in"]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (folder / "bert_config.json").write_text(json.dumps(dict(CONFIG, vocab_size=len(tokens))))
    return folder


@pytest.fixture(scope="session")
def finished(tiny: Path) -> str:
    """Give the prefix of a checkpoint that the program itself has made in two steps."""
    assert main(flags(tiny, do_train=True, num_train_steps=2, output_dir=tiny / "finished")) == 0
    return str(tiny / "finished" / "model.ckpt-2")


def flags(folder: Path, **changes: Any) -> list[str]:
    """Make the program's command line for the tiny job."""
    values: dict[str, Any] = {
        "vocab_file": folder / "vocab.txt",
        "bert_config_file": folder / "bert_config.json",
        "train_file": folder / "train.json",
        "predict_file": folder / "dev.json",
        "version_2_with_negative": True,
        "max_seq_length": 64,
        "doc_stride": 16,
        "max_query_length": 24,
        "learning_rate": 1e-3,
    }
    values.update(changes)
    return ["--{}={}".format(*item) for item in values.items()]
