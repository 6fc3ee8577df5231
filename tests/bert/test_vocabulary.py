"""Vocabularies as others write them, and what the files beside them say of case."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest

from bert import text_rules, vocabulary
from bert.text_rules import TextRules

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
TOKENS = [*SPECIAL, *string.ascii_lowercase, "the", "##s"]
CASED = [*TOKENS, *string.ascii_uppercase]


def write(folder: Path, content: str, name: str = "vocab.txt") -> str:
    path = folder / name
    path.write_bytes(content.encode())
    return str(path)


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n\r\n", "\n  \n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_marks_and_a_blank_end_change_nothing(
    tmp_path: Path, end: str, newline: str, mark: str
) -> None:
    found = vocabulary.read(write(tmp_path, mark + newline.join(TOKENS) + end))
    assert list(found.ids) == TOKENS and found.size == len(TOKENS) and not found.notes
    assert found.sha256 == vocabulary.read(write(tmp_path, "\n".join(TOKENS))).sha256
    assert found.text == "".join(token + "\n" for token in TOKENS)


def test_a_blank_line_between_keeps_its_number(tmp_path: Path) -> None:
    found = vocabulary.read(write(tmp_path, "\n".join([*SPECIAL, "", "a"])))
    assert found.ids["a"] == 5 and found.size == 6


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("\n".join([*TOKENS, "the"]),
         "duplicate tokens, of which the last line counts: 'the' on lines 31, 33"),
        ("\n".join(TOKENS[1:]), "[PAD] missing; rows are padded with id 0"),
    ],
)  # fmt: skip
def test_what_is_odd_but_usable_is_named(tmp_path: Path, content: str, note: str) -> None:
    found = vocabulary.read(write(tmp_path, content))
    assert len(found.notes) == 1 and found.notes[0].startswith(note)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[PAD]\n[UNK]\na\n", "[CLS], [SEP] missing; give the model's vocab.txt"),
        (json.dumps({"a": 1}), "JSON, as of RoBERTa"),
        ("\n".join([*SPECIAL, "\u2581the", "\u2581a"]), "holds SentencePieces"),
        ("", "empty"),
    ],
)
def test_what_is_no_vocabulary_of_a_bert_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        vocabulary.read(write(tmp_path, content))
    assert message in str(caught.value)


def tokenizer(model: Any, **more: Any) -> str:
    return json.dumps({"model": model, **more})


def test_a_tokenizer_json_holds_the_vocabulary_too(tmp_path: Path) -> None:
    ids = {token: index for index, token in enumerate(TOKENS) if token != "[SEP]"}
    added = [{"id": 3, "content": "[SEP]"}, {"id": 40, "content": "[NEW]"}]
    content = tokenizer({"type": "WordPiece", "vocab": ids}, added_tokens=added)
    found = vocabulary.read(write(tmp_path, content, "tokenizer.json"))
    assert found.size == 41 and found.ids["[SEP]"] == 3
    again = vocabulary.read(write(tmp_path, found.text))
    assert again.size == 41 and {token: again.ids[token] for token in found.ids} == found.ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tokenizer({"type": "BPE", "vocab": {}}), "its model is 'BPE'; expected the tokenizer.json"),
        (tokenizer(None), "its model is 'missing'"),
        (tokenizer({"vocab": []}), "model.vocab is no object"),
        (tokenizer({"vocab": {"[UNK]": "x"}}), "an id is no whole number"),
        ("[1]", "not a JSON object"),
    ],
)
def test_a_tokenizer_json_of_another_kind_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        vocabulary.read(write(tmp_path, content, "tokenizer.json"))
    assert message in str(caught.value)


def rules(folder: Path, tokens: list[str], facts: Any = None, **files: Any) -> TextRules:
    path = write(folder, "\n".join(tokens))
    for name, content in files.items():
        write(folder, json.dumps(content), name + ".json")
    return text_rules.find([str(folder)], facts or {}, vocabulary.read(path))


def normalizer(kind: str = "BertNormalizer", **values: Any) -> dict[str, Any]:
    return {"normalizer": {"type": kind, **values}}


LOWER = {"tokenizer_config": {"do_lower_case": True}}


@pytest.mark.parametrize(
    ("tokens", "files", "lower"),
    [
        (TOKENS, {}, True),
        (CASED, {}, False),
        (CASED, LOWER, True),
        (TOKENS, {"tokenizer_config": {"do_lower_case": False}}, False),
        (TOKENS, {"tokenizer_config": {"model_max_length": 512}}, True),
        (TOKENS, {"tokenizer": normalizer(lowercase=False)}, False),
        (TOKENS, {"tokenizer": {"normalizer": None}}, False),
        (TOKENS, {"tokenizer": normalizer("Sequence", normalizers=[{"type": "Lowercase"}])}, True),
        # Of two that differ transformers obeys tokenizer_config.json.
        (TOKENS, {**LOWER, "tokenizer": normalizer(lowercase=False)}, True),
        # What a run of this program was trained with comes first.
        (TOKENS, {**LOWER, "facts": {"data": {"do_lower_case": False}}}, False),
    ],
)  # fmt: skip
def test_case_is_what_the_files_say_then_what_the_vocabulary_shows(
    tmp_path: Path, tokens: list[str], files: dict[str, Any], lower: bool
) -> None:
    assert rules(tmp_path, tokens, **files).do_lower_case is lower


@pytest.mark.parametrize(
    ("name", "lower"), [("cased_L-12_H-768", False), ("uncased_L-12", True), ("mcasedx", True)]
)
def test_a_folders_name_decides_last(tmp_path: Path, name: str, lower: bool) -> None:
    (tmp_path / name).mkdir()
    assert rules(tmp_path / name, TOKENS).do_lower_case is lower


def test_accents_and_chinese_characters_are_read_too(tmp_path: Path) -> None:
    held = {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}
    found = rules(tmp_path, TOKENS, tokenizer_config=held)
    assert found.values() == held
    write(tmp_path, text_rules.to_json(found), "tokenizer_config.json")
    assert text_rules.read(str(tmp_path)).values() == held


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"do_lower_case": "false"}', "do_lower_case is 'false' (expected true or false)"),
        ("{", "line 1 column 2: invalid JSON"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, content, "tokenizer_config.json")
    with pytest.raises(ValueError) as caught:
        text_rules.read(str(tmp_path))
    assert str(caught.value).startswith(path) and message in str(caught.value)


def test_another_tokenizer_is_named(tmp_path: Path) -> None:
    held = {"tokenizer_class": "BertJapaneseTokenizer", "do_lower_case": False}
    assert "BertJapaneseTokenizer" in rules(tmp_path, TOKENS, tokenizer_config=held).notes[0]


def test_a_rule_that_is_none_is_named_with_the_file_that_says_it(tmp_path: Path) -> None:
    normalizer = {"type": "BertNormalizer", "lowercase": "yes"}
    write(tmp_path, json.dumps({"normalizer": normalizer}), "tokenizer.json")
    with pytest.raises(ValueError, match=r"/tokenizer\.json: do_lower_case is 'yes' \(expected true or"):
        text_rules.read(str(tmp_path))
