"""The one reader of questions: what it reads, what it names, and that nothing makes it fail otherwise."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squad.data.examples import read_squad
from squad.data.squad_file import load_json, load_questions, problem
from squad.errors import DataError
from squad.evaluate import evaluate, read_questions


def refusal(content: bytes, folder: Path) -> str:
    """Give what is said of a file, without its path."""
    path = folder / "squad.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_squad(str(path), True, True)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)[len(str(path)) :]


def flat(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Make the rows of Hugging Face's datasets: without is_impossible, answers by column."""
    rows = []
    for paragraph in document["data"][0]["paragraphs"]:
        for question in paragraph["qas"]:
            held = question["answers"]
            answers = {key: [answer[key] for answer in held] for key in ("text", "answer_start")}
            row = {"id": question["id"], "title": "t", "context": paragraph["context"]}
            rows.append(dict(row, question=question["question"], answers=answers))
    return rows


def lines(rows: list[Any]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n\n"


def by_column(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Make what Dataset.to_dict gives."""
    return {column: [row[column] for row in rows] for column in rows[0]}


def indexed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Make what pandas' DataFrame.to_json writes."""
    return {column: dict(zip("01", cells)) for column, cells in by_column(rows).items()}


def flattened(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make what Dataset.flatten gives."""
    for row in rows:
        row.update({f"answers.{key}": value for key, value in row.pop("answers").items()})
    return rows


def split(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Make what pandas' DataFrame.to_json writes with orient="split"."""
    return {"columns": list(rows[0]), "index": [0, 1], "data": [list(row.values()) for row in rows]}


LAYOUTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "articles alone": lambda document: json.dumps(document["data"]),
    "paragraphs in data": lambda document: json.dumps({"data": document["data"][0]["paragraphs"]}),
    "rows in data": lambda document: json.dumps({"version": "2.0", "data": flat(document)}),
    "a list of rows": lambda document: json.dumps(flat(document), indent=1),
    "a row each line": lambda document: lines(flat(document)),
    "articles each line": lambda document: lines([*document["data"], {"paragraphs": []}]),
    "rows by column": lambda document: json.dumps(by_column(flat(document))),
    "rows by column and index": lambda document: json.dumps(indexed(flat(document))),
    "rows without depth": lambda document: lines(flattened(flat(document))),
    "rows by index": lambda document: json.dumps(dict(zip("01", flat(document)))),
    "rows without names": lambda document: json.dumps(split(flat(document))),
    "rows below a schema": lambda document: json.dumps({"schema": {"fields": []}, "data": flat(document)}),
    "a single article": lambda document: json.dumps(document["data"][0]),
    "a single paragraph": lambda document: json.dumps(document["data"][0]["paragraphs"][0]),
    "with a byte order mark": lambda document: "\ufeff" + json.dumps(document),
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("packed", [False, True])
def test_each_layout_gives_the_same_examples_and_figures(
    layout: str, packed: bool, document: dict[str, Any], tmp_path: Path
) -> None:
    plain, other = tmp_path / "plain.json", tmp_path / "other.json"
    plain.write_text(json.dumps(document))
    content = LAYOUTS[layout](document).encode()
    other.write_bytes(gzip.compress(content) if packed else content)
    assert read_squad(str(other), True, True) == read_squad(str(plain), True, True)
    guesses = {"q1": "Ada", "q2": ""}
    assert evaluate(load_questions(str(other)), guesses) == evaluate(document, guesses)


def test_a_single_row_is_a_file_of_one_line(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(flat(document)[0]))
    assert [example.qas_id for example in read_squad(str(path), True, True)] == ["q1"]


@pytest.mark.parametrize(
    ("layout", "place"),
    [
        ("rows in data", ": data[1].question: "),
        ("a list of rows", ": [1].question: "),
        ("rows by column", ": row 2.question: "),
        ("rows without names", ": row 2.question: "),
        ("a row each line", ": line 2.question: "),
        ("paragraphs in data", ": data[0].qas[1].question: "),
        ("articles alone", ": [0].paragraphs[0].qas[1].question: "),
    ],
)
def test_a_fault_has_its_place_in_each_layout(
    layout: str, place: str, document: dict[str, Any], tmp_path: Path
) -> None:
    document["data"][0]["paragraphs"][0]["qas"][1]["question"] = None
    said = refusal(LAYOUTS[layout](document).encode(), tmp_path)
    assert said == place + "null is not a string; give a SQuAD file (question q2)"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \n", "blank"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"BZh91AY", "a bzip2 file"),
        pytest.param(gzip.compress(gzip.compress(b"[]")), "a gzip file inside a gzip file", id="gzip twice"),
        (b"\xfd7zXZ\x00", "an xz file"),
        (b"\x28\xb5\x2f\xfd\x04", "a zstd file"),
        (b"\x80\x04\x95", "a Python pickle"),
        (b"\x00" * 600, "a binary file"),
        (b"name" + b"\x00" * 253 + b"ustar", "a tar archive"),
        ('{"data": []}'.encode("utf-16"), "UTF-16 text"),
        ('{"data": []}'.encode("utf-16-le"), "UTF-16 text"),
        ('{"data": []}'.encode("utf-32"), "UTF-32 text"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n<?xml version='1.0'?>", "XML or a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
        (b"404: Not Found", "a server's message, '404: Not Found'"),
    ],
)
def test_another_kind_of_file_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    text = refusal(content, tmp_path)
    assert text.startswith(f": {said}, not JSON; ") and "\n" not in text
    assert str(problem(str(tmp_path / "squad.json"))).startswith(said)


@pytest.mark.parametrize("content", [b"[]", b'{"data": []}', b'\xef\xbb\xbf {"data"', b"{'data': 1}"])
def test_json_is_left_to_be_parsed(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "squad.json").write_bytes(content)
    assert problem(str(tmp_path / "squad.json")) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"data": [', ":1:11: invalid JSON: Expecting value: the file ends too early; download it again"),
        (b'{"data": [\n{"title": "x', ":2:11: invalid JSON: Unterminated string starting at: the file "),
        (b'{"a": 1}\n{"a": ', ":2:7: invalid JSON"),
        (b"{'data': []}", ":1:2: invalid JSON"),
        (b"data = 3", ":1:1: invalid JSON: Expecting value: 'data = 3'; give a SQuAD file"),
        (b'{"data": ' + b"9" * 5000 + b"}", ": "),
        (b"\x1f\x8b\x08\x00", ": a gzip file that cannot be unpacked"),
        pytest.param(
            gzip.compress(b'{"data": []}' * 99)[:40], ": a gzip file that cannot be unpacked", id="cut"
        ),
    ],
)
def test_a_broken_file_is_named_by_its_place(content: bytes, said: str, tmp_path: Path) -> None:
    text = refusal(content, tmp_path)
    assert text.startswith(said) and "\n" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"context_text": "c", "qas": [{"query_id": "Q"}]}], "[0]: CMRC 2018's own layout"),
        ({"data": [{"storyId": "s", "text": "t", "questions": []}]}, "data[0]: NewsQA's own layout"),
        ({"data": [{"story": "s", "questions": []}]}, "data[0]: CoQA's layout"),
        ({"Data": []}, "TriviaQA's own layout"),
        ([["a", "t", "c", "q"]], "a table without names of columns"),
        ({"rows": [{"row_idx": 0}], "features": []}, "an answer of Hugging Face's dataset viewer"),
        ({"id": ["a", "b"], "context": ["c"], "question": ["q"]}, "a table by columns, of which id is no"),
        ({"columns": ["id"], "index": [0], "data": [["a"]]}, "a table by columns without context and"),
        ({"columns": ["context", "question"], "index": [0], "data": [["a"]]}, "a table (pandas, orient="),
        ({"train": [], "validation": []}, "several sets in one file (train, validation)"),
        ({"model_type": "bert", "hidden_size": 16}, "a model's configuration"),
        ({"a": "x", "b": "y"}, "data: missing; ids and values, as in predictions.json"),
        ({"items": []}, "data: missing (the object has items)"),
        ({"data": [{"context": "c", "qas": [{"id": "a", "question": "q", "answer": {}}]}]},
         "data[0].qas[0].answers: missing (the object has id, question, answer)"),
        ({"data": [{"context": "c", "qas": [{"id": "a", "question": "q", "answers": ["x"]}]}]},
         "data[0].qas[0].answers[0].text: 'x' is not an object with text and answer_start"),
    ],
)  # fmt: skip
def test_another_layout_is_named(content: Any, said: str, tmp_path: Path) -> None:
    assert refusal(json.dumps(content).encode(), tmp_path).startswith(f": {said}")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "fifo"))
    cases = ((tmp_path / "fifo", "not a regular file"), (tmp_path, "a folder"), ("a\0b", "embedded"))
    for path, said in cases:
        with pytest.raises(DataError, match=said):
            load_json(str(path))
        assert said in str(problem(str(path)))


def test_without_reference_answers_a_file_is_predicted_and_not_scored(document: dict[str, Any]) -> None:
    first, second = document["data"][0]["paragraphs"][0]["qas"]
    del first["answers"], second["answers"]
    assert [question.answers for question in read_questions(document, references=False)] == [None, []]
    with pytest.raises(DataError, match=r"qas\[0\].answers: missing .*; give the answers.*\(question q1\)$"):
        read_questions(document)


def test_what_is_shown_of_a_file_can_be_printed(document: dict[str, Any], tmp_path: Path) -> None:
    document["data"][0]["paragraphs"][0]["qas"][0].update(id="\u202e\n\x1b[31m\ud800", question=["\u2028"])
    said = refusal(json.dumps(document).encode(), tmp_path)
    assert said.isprintable() and "\\x1b[31m" in said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def answers(context: str) -> st.SearchStrategy[Any]:
    texts = st.text(max_size=5) | st.sampled_from([context[i:j] for i in range(4) for j in range(1, 9)])
    one = st.fixed_dictionaries({"text": texts | JSON, "answer_start": st.integers(-3, 30) | JSON})
    columns = [st.lists(kind, max_size=2) for kind in (texts | JSON, st.integers())]
    by_column = st.fixed_dictionaries(dict(zip(("text", "answer_start"), columns)))
    return st.lists(one | JSON, max_size=2) | by_column | JSON


@st.composite
def questions(draw: Callable[..., Any], context: str) -> dict[str, Any]:
    keys = {
        "id": st.text(max_size=3) | st.integers() | JSON,
        "question": st.text(max_size=9) | JSON,
        "answers": answers(context),
        "is_impossible": st.booleans() | JSON,
        "context": st.just(context),
    }
    full = draw(st.fixed_dictionaries(keys))
    for key in draw(st.lists(st.sampled_from(sorted(keys)), max_size=2, unique=True)):
        del full[key]
    return full


@st.composite
def documents(draw: Callable[..., Any]) -> Any:
    context = draw(st.text(min_size=1, max_size=30))
    qas = draw(st.lists(questions(context) | JSON, max_size=3) | JSON)
    held = {"context": context, "qas": qas}
    cells = st.lists(JSON, max_size=2) | st.dictionaries(st.sampled_from("01"), JSON | st.just(context))
    columns = {name: draw(cells) for name in ("id", "context", "question", "answers", "answers.text")}
    table = {"columns": list(columns), "index": [], "data": list(columns.values())}
    plain = [qas, [held], [{"paragraphs": [held, qas]}], columns, table, dict(zip("01", [columns] * 2))]
    data = draw(st.sampled_from(plain) | JSON)
    return draw(st.sampled_from([data, {"data": data, "version": draw(JSON)}]) | JSON)


def check(path: Path, training: bool, negative: bool, skip: bool) -> None:
    """Read a file as all programs do: answers are words of the passage, or printable lines say why."""
    try:
        examples = read_squad(str(path), training, negative, skip, "most" if skip else "")
        for example in examples:
            if training and not example.is_impossible:
                assert -1 <= example.start_position <= example.end_position < len(example.doc_tokens)
        listed = read_questions(load_questions(str(path)), str(path))
        evaluate(load_questions(str(path)), {question.id: "x" for question in listed})
    except DataError as error:
        assert all(line.isprintable() and len(line) < 600 for line in str(error).split("\n"))


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(document=documents(), training=st.booleans(), negative=st.booleans(), skip=st.booleans())
def test_any_json_is_read_or_refused_in_lines(
    document: Any, training: bool, negative: bool, skip: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    check(path, training, negative, skip)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    start=st.sampled_from([b"", b"\x1f\x8b\x08", b"\xef\xbb\xbf{", b'{"data": [', b"[[[", b'{"id": 1}\n']),
    rest=st.binary(max_size=60) | st.text('[]{}:,"\\ut\n1eE-.', max_size=60).map(str.encode),
)
def test_any_bytes_are_refused_in_lines(start: bytes, rest: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.bin"
    path.write_bytes(start + rest)
    check(path, True, True, False)
