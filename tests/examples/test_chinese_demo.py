"""The Chinese demo: right offsets, answers that come back exactly, and the whole program on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squad.answers.answer_text import AnswerText
from squad.answers.nbest import Options, rank
from squad.data.examples import read_squad
from squad.data.features import build_features
from squad.data.tokenizer import Tokenizer
from squad.run_squad import main

MAKE = Path(__file__).resolve().parents[2] / "examples" / "make_chinese_demo.py"
FILES = ["bert_config.json", "dev.json", "train.json", "vocab.txt"]


def make(folder: Path) -> Path:
    command = [sys.executable, str(MAKE), "--output", str(folder)]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("chinese"))


def paragraphs(folder: Path, split: str) -> list[Any]:
    document = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))
    return [paragraph for article in document["data"] for paragraph in article["paragraphs"]]


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    again = make(tmp_path)
    assert sorted(path.name for path in again.iterdir()) == FILES
    assert all((made / name).read_bytes() == (again / name).read_bytes() for name in FILES)


@pytest.mark.parametrize(("split", "answers"), [("train", 1), ("dev", 3)])
def test_every_answer_is_at_its_offset(split: str, answers: int, made: Path) -> None:
    for paragraph in paragraphs(made, split):
        for qa in paragraph["qas"]:
            assert len(qa["answers"]) == answers
            for answer in qa["answers"]:
                assert paragraph["context"].startswith(answer["text"], answer["answer_start"])


def test_names_of_the_dev_file_have_characters_that_the_vocabulary_lacks(made: Path) -> None:
    words = set((made / "vocab.txt").read_text(encoding="utf-8").split())
    assert all(set(paragraph["context"]) <= words for paragraph in paragraphs(made, "train"))
    assert sum(not set(paragraph["context"]) <= words for paragraph in paragraphs(made, "dev")) > 20


@pytest.mark.parametrize("split", ["train", "dev"])
def test_every_answer_comes_back_from_its_columns(split: str, made: Path) -> None:
    examples = read_squad(str(made / f"{split}.json"), True, False, several="all")
    tokenizer = Tokenizer(str(made / "vocab.txt"))
    features = build_features(examples, tokenizer, 96, 32, 32, training=True)
    start, end = np.full((2, *features.input_ids.shape), -9, np.float32)
    rows = np.arange(len(features))
    start[rows, features.start_positions] = end[rows, features.end_positions] = 9
    start[:, 0] = end[:, 0] = -20
    features.token_is_max_context[rows, features.start_positions] = 1
    found = list(rank(examples, features, start, end, AnswerText(tokenizer.vocab), Options(1, 99)))
    for example, answer in zip(examples, found):
        assert answer.entries[0].text == example.orig_answer_text
        assert answer.entries[0].start == example.answer_start


def run(made: Path, output: Path, **flags: Any) -> int:
    flags = {"predict_file": made / "dev.json", "output_dir": output, "do_predict": True, **flags}
    flags["evaluation"] = "cmrc"
    return main([f"--{name}={value}" for name, value in flags.items()])


def test_the_choice_is_said_once_and_goes_with_the_checkpoint(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"max_seq_length": 224, "max_query_length": 32, "max_eval_samples": 8}
    training = {"do_train": True, "train_file": made / "train.json", "max_train_samples": 8, **sizes}
    training.update(num_train_steps=1, train_batch_size=2, input_files_dir=tmp_path / "cache")
    model = {name: made / name.replace("_file", suffix) for name, suffix in
             (("vocab_file", ".txt"), ("bert_config_file", ".json"))}  # fmt: skip
    assert run(made, tmp_path / "run", **training, **model) == 0
    said = capsys.readouterr().out
    assert said.count("word_split cjk: ") == 1
    assert json.loads((tmp_path / "cache" / "train.manifest.json").read_text())["key"]["word_split"] == "cjk"
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["task_specific_params"]["squad"]["word_split"] == "cjk"
    first = json.loads((tmp_path / "run" / "predictions.json").read_text(encoding="utf-8"))
    assert run(made, tmp_path / "again", init_checkpoint=tmp_path / "run", max_eval_samples=8) == 0
    said = capsys.readouterr()
    assert "word_split" not in said.out
    assert json.loads((tmp_path / "again" / "predictions.json").read_text(encoding="utf-8")) == first
    contexts = {qa["id"]: p["context"] for p in paragraphs(made, "dev") for qa in p["qas"]}
    assert len(first) == 8 and all(text in contexts[key] for key, text in first.items())
