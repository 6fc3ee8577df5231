"""Questions from CSV and TSV: what spreadsheets and pandas write is read, and every fault has its line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squad.data.examples import Examples, read_squad
from squad.data.squad_file import load_questions, problem
from squad.errors import DataError
from squad.evaluate import main, read_questions

HEAD = "id,question,context\n"


def read(content: Any, folder: Path, name: str = "q.csv", training: bool = False) -> Examples:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_squad(str(path), training, True)


def refusal(content: Any, folder: Path, name: str = "q.csv", training: bool = False) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(content, folder, name, training)
    return str(caught.value).replace(f"{folder / name}: ", "").split("\n")


@pytest.mark.parametrize(
    "content",
    [
        "question,context\nWho?,Ada wrote.\nWhat?,A text.\n",
        "\ufeffQuestion;Passage\r\nWho?;Ada wrote.\r\nWhat?;A text.\r\n",
        "sep=;\r\nQuestion;Passage\r\nWho?;Ada wrote.\r\nWhat?;A text.\r\n",
        "Query \tParagraph\nWho?\tAda wrote.\nWhat?\tA text.\n",
        'title,TEXT,"QUESTION"\n,Ada wrote.,Who?\n,A text.,What?\n,,\n\n',
        "question|context\rWho?|Ada wrote.\rWhat?|A text.",
        "段落,问题\nAda wrote.,Who?\nA text.,What?\n",
        codecs.BOM_UTF16_LE + "question\tcontext\nWho?\tAda wrote.\nWhat?\tA text.\n".encode("utf-16-le"),
        gzip.compress(b"question,context\nWho?,Ada wrote.\nWhat?,A text.\n"),
    ],
    ids=["plain", "semicolons", "sep", "tabs", "quotes", "old Mac", "Chinese", "UTF-16", "gzip"],
)
@pytest.mark.parametrize("name", ["q.csv", "q.tsv", "q.txt", "q.csv.gz"])
def test_each_kind_of_table_gives_the_same_questions(content: Any, name: str, tmp_path: Path) -> None:
    found = read(content, tmp_path, name)
    assert [(e.qas_id, e.question_text, " ".join(e.doc_tokens)) for e in found] == [
        ("1", "Who?", "Ada wrote."),
        ("2", "What?", "A text."),
    ]
    assert not found.notes and problem(str(tmp_path / name)) is None


def test_quoted_cells_hold_delimiters_quotes_and_lines(tmp_path: Path) -> None:
    found = read('question,context\n"Who, ""then""?","One\ntwo"\nWhat?,c\n', tmp_path)
    assert found[0].question_text == 'Who, "then"?' and found[0].doc_tokens == ["One", "two"]
    # The line is that in which a record begins, also after one of several lines.
    assert refusal('question,context\n"Who?","One\ntwo"\nWhat?, \n', tmp_path) == [
        "line 4.context: empty; fill the cell or remove the line"
    ]


def test_a_long_cell_is_read_whole(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    assert len(read(HEAD + "a,q," + "word " * 50000, tmp_path)[0].doc_tokens) == 50000
    assert csv.field_size_limit() == limit


def test_tabs_without_quoting_keep_their_quotes(tmp_path: Path) -> None:
    found = read('question\tcontext\n"Who" wrote?\t"Ada"\n', tmp_path, "q.tsv")
    assert found[0].question_text == '"Who" wrote?' and "quotes are read as they stand" in found.notes[0]


def test_every_fault_is_named_by_its_line(tmp_path: Path) -> None:
    content = HEAD + "a,q,c\na,q,c\n,q,c\nb,,c\nc,q, \nd,q,c,more\ne,q\n"
    assert refusal(content, tmp_path) == [
        "line 4.id: empty; fill the cell or remove the line",
        "line 5.question: empty; fill the cell or remove the line",
        "line 6.context: empty; fill the cell or remove the line",
        'line 7: 4 cells, the first line has 3; put a cell with a delimiter or a line break into "quotes"',
        'line 8: 2 cells, the first line has 3; put a cell with a delimiter or a line break into "quotes"',
        "line 3.id: duplicate id a, first used by line 2; make it unique",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "a table without column question and context (the first line has a, b); name the"),
        ("question,b\n1,2\n", "a table without column context (the first line has question, b)"),
        (HEAD + "a,q,\xe9 c\n", ""),
        ("问题,段落\n谁,张三\n".encode("gb18030"), "line 1 is not UTF-8; save it as \"CSV UTF-8\", or, if it "
         "should read '问题,段落': iconv -f GB18030 -t UTF-8 FILE > NEW"),
        (HEAD.encode() + b"a,caf\xe9 x,c\n", 'line 2 is not UTF-8; save it as "CSV UTF-8"'),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("<html>question,context", "a web page"),
    ],
)  # fmt: skip
def test_what_the_first_bytes_show_is_said_before_a_start(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = problem(str(path))
    assert (found or "").startswith(said) and bool(found) == bool(said)
    if said:
        assert refusal(content, tmp_path)[0].startswith(said.split(";")[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEAD + 'a,q,"c\n', "line 2: a quote that does not end; write it again as CSV"),
        (HEAD + 'a,q,"c" d\n', "line 2: ',' expected after '\"'; write it again as CSV"),
        (HEAD, "contains no questions; give a SQuAD file"),
    ],
)
def test_a_broken_table_is_one_line(content: str, said: str, tmp_path: Path) -> None:
    assert refusal(content, tmp_path) == [said]


def test_utf_16_that_ends_too_early_is_not_called_utf_8(tmp_path: Path) -> None:
    content = (HEAD + "a,q,c\n").encode("utf-16")[:-1]
    said = "UTF-16 text that is damaged or ends too early; save it again, or copy it again"
    assert refusal(content, tmp_path) == [said]


def test_columns_that_are_not_read_are_named_once(tmp_path: Path) -> None:
    found = read("question,context,text,Score,title\nq,c,t,1,t\n", tmp_path)
    assert found.notes == [f"{tmp_path / 'q.csv'}: columns that are not read: text, Score"]


ANSWERS = {
    "a list that json printed": '[{"text": "Ada", "answer_start": 0}]',
    "an object that json printed": '{"text": ["Ada"], "answer_start": [0]}',
    "an object that Python printed": "{'text': ['Ada'], 'answer_start': [0]}",
    "an object that pandas printed": (
        "{'text': array(['Ada'], dtype=object),\n 'answer_start': array([0], dtype=int32)}"
    ),
}


def table(*rows: Any) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=list(ANSWERS))
def test_a_table_with_answers_and_their_starts_can_be_trained_on(answers: str, tmp_path: Path) -> None:
    none = "{'text': array([], dtype=object), 'answer_start': array([], dtype=int32)}"
    content = table(["context", "question", "answers"], ["Ada \\d", "Who?", answers], ["c", "What?", none])
    found = read(content, tmp_path, training=True)
    assert [(e.orig_answer_text, e.start_position) for e in found] == [("Ada", 0), ("", -1)]
    for start in ("0", "0.0"):  # pandas' floats, where another cell is empty
        single = f"context,question,answer,answer_start\nAda x,Who?,Ada,{start}\nc,What?,,\n"
        assert [e.orig_answer_text for e in read(single, tmp_path, training=True)] == ["Ada", ""]


def test_a_table_without_answers_or_starts_is_refused_in_one_line(tmp_path: Path) -> None:
    assert refusal(HEAD + "a,q,c\nb,q,c\n", tmp_path, training=True) == [
        "no column of answers, which training and scoring need; its questions can be predicted"
    ]
    assert refusal("question,context,answer\nq,c,c\nq,c,c\n", tmp_path, training=True) == [
        "no column answer_start, which training needs: where in its context an answer begins"
    ]
    head = "question,context,answer,answer_start\n"
    for row, column in (("q,c,,\n", "of answers, which"), ("q,c,c,\n", "answer_start, which")):
        said = refusal(head + row, tmp_path, training=True)[0]
        assert said.startswith(f"no value in the column {column}")
    for row in ("q,c\n", ",c,c,0\n"):  # the columns are there
        assert len(refusal(head + row, tmp_path, training=True)) == 1
    assert refusal(head, tmp_path, training=True)[0].startswith("contains no questions")
    assert refusal(table(["question", "context", "answers"], ["q", "c", "{'text': array(['c', <x>"]),
                   tmp_path, training=True)[0].startswith("line 2.answers: \"{'text'")  # fmt: skip


def test_reference_answers_of_a_table_are_scored(tmp_path: Path, capsys: Any) -> None:
    rows = [["a", "Ada", ""], ["b", "[1990]", "FALSE"], ["c", "", "TRUE"], ["d", '["x", "y"]', ""]]
    lines = [["id", "answer", "is_impossible", "question", "context"], *([*row, "q", "c"] for row in rows)]
    path, guesses = tmp_path / "q.csv", tmp_path / "predictions.json"
    path.write_text(table(*lines))
    questions = read_questions(load_questions(str(path)), str(path))
    assert [[answer.text for answer in question.answers or ()] for question in questions] == [
        ["Ada"], ["[1990]"], [], ["x", "y"],
    ]  # fmt: skip
    guesses.write_text(json.dumps({"a": "Ada", "b": "1990", "c": "", "d": "y"}))
    assert main([str(path), str(guesses)]) == 0 and json.loads(capsys.readouterr().out)["exact"] == 100


CELL = st.text(st.sampled_from("a,\"\t\n\r;|[]{}':0\0é问\ud800"), max_size=8) | st.sampled_from(
    [*ANSWERS.values(), "[", "{'text': [1]}", "{'text': {}}", "[[]]", "[{}]", "TRUE", "nan", "[1, 2]"]
)
NAMES = ["id", "question", "context", "answers", "answer_start", "is_impossible", "Text", "answer", ""]


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    header=st.permutations(NAMES) | st.lists(CELL | st.sampled_from(NAMES), max_size=4),
    cells=st.lists(st.lists(CELL, min_size=6, max_size=9), max_size=3),
    mark=st.sampled_from(",\t;"),
    quote=st.booleans(),
    training=st.booleans(),
)
def test_any_table_is_read_or_refused_in_lines(
    header: Any, cells: Any, mark: str, quote: bool, training: bool, tmp_path_factory: Any
) -> None:
    stream = io.StringIO()
    for row in [header, *cells]:
        if quote:
            row = ['"' + cell.replace('"', '""') + '"' for cell in row]
        stream.write(mark.join(row) + "\n")
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(stream.getvalue().encode("utf-8", "surrogatepass"))
    problem(str(path))
    for use in (
        lambda: read_squad(str(path), training, True, True, "all"),
        lambda: read_questions(load_questions(str(path)), str(path)),
    ):
        try:
            use()
        except DataError as error:
            assert all(line.isprintable() and len(line) < 600 for line in str(error).split("\n"))
