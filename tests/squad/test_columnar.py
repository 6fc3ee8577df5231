"""Questions from parquet and Arrow files, as Hugging Face's hub and Dataset.save_to_disk have them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squad.check import check
from squad.data import columnar
from squad.data.examples import read_squad
from squad.data.squad_file import load_questions, problem
from squad.errors import DataError
from squad.evaluate import main

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ANSWERED = {"text": ["Ada", "wrote"], "answer_start": [4, 17]}
ROWS = [
    {"id": "q1", "title": "t", "context": "The Ada Lovelace wrote.", "question": "who", "answers": ANSWERED},
    {"id": "q2", "title": "t", "context": "The Ada Lovelace wrote.", "question": "where",
     "answers": {"text": [], "answer_start": []}},
]  # fmt: skip
TYPE = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])


def columns(rows: list[dict[str, Any]], **types: Any) -> Any:
    given = {"answers": TYPE, **types}
    arrays = [pa.array([row[name] for row in rows], given.get(name)) for name in rows[0]]
    return pa.Table.from_arrays(arrays, names=list(rows[0]))


def written(table: Any, kind: str = "parquet") -> bytes:
    stream = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, stream)
        return stream.getvalue()
    make = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with make(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["parquet", "stream", "file"])
@pytest.mark.parametrize("form", ["struct of lists", "list of structs", "large and encoded"])
def test_a_file_gives_the_examples_and_figures_of_its_rows(
    kind: str, form: str, tmp_path: Path, capsys: Any
) -> None:
    table, path, plain = columns(ROWS), tmp_path / "q.parquet", tmp_path / "rows.json"
    if form == "list of structs":
        rows = [dict(row, answers=[]) for row in ROWS]
        rows[0]["answers"] = [{"text": "Ada", "answer_start": 4}, {"text": "wrote", "answer_start": 17}]
        kind_of = pa.list_(pa.struct([("text", pa.string()), ("answer_start", pa.int64())]))
        table = columns(rows, answers=kind_of)
    elif form == "large and encoded":
        table = columns(ROWS, context=pa.large_string(), id=pa.large_string())
        table = table.set_column(1, "title", table.column("title").dictionary_encode())
        table = table.set_column(3, "question", table.column("question").dictionary_encode())
    path.write_bytes(written(table, kind))
    plain.write_text(json.dumps(ROWS))
    for training in (True, False):
        asked = (training, True, False, "all")
        assert read_squad(str(path), *asked) == read_squad(str(plain), *asked)
    guesses = tmp_path / "predictions.json"
    guesses.write_text(json.dumps({"q1": "wrote", "q2": ""}))
    assert main([str(path), str(guesses)]) == 0 and json.loads(capsys.readouterr().out)["exact"] == 100
    assert problem(str(path)) is None


def test_articles_in_rows_are_read(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    path.write_bytes(written(pa.Table.from_pylist(document["data"])))
    assert [example.qas_id for example in read_squad(str(path), True, True)] == ["q1", "q2"]


def refusal(content: bytes, folder: Path, training: bool = True) -> str:
    path = folder / "q.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_squad(str(path), training, True)
    return str(caught.value).replace(f"{path}: ", "")


def test_faults_have_their_row_and_types_are_checked(tmp_path: Path) -> None:
    rows = [dict(ROWS[1], id="q1"), dict(ROWS[1], context=None), dict(ROWS[1], id="q3", question="")]
    assert (
        refusal(written(columns(rows)), tmp_path) == "row 2.context: null is not a string; give a SQuAD file"
    )
    numbers = columns([dict(ROWS[0], question=5)])
    assert refusal(written(numbers), tmp_path).startswith("row 1.question: 5 is not a string")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            {"sentence": ["x"]},
            "a parquet file: no columns context and question (found: sentence); rename them",
        ),
        ({"input_ids": [[1]]}, "a parquet file: rows that are tokenised already; convert it to SQuAD's"),
        ({"id": ["a"], "context": ["c"], "question": ["q"]}, "no column of answers, which training and"),
    ],
)
def test_a_table_of_something_else_is_named(table: Any, said: str, tmp_path: Path) -> None:
    assert refusal(written(pa.table(table)), tmp_path).startswith(said)


def test_one_of_several_parts_says_so(tmp_path: Path) -> None:
    for name, parts in (("train-00000-of-00002.parquet", 1), ("train-00000-of-00001.parquet", 0)):
        (tmp_path / name).write_bytes(written(columns(ROWS)))
        notes = read_squad(str(tmp_path / name), False, True).notes
        assert sum("one of 2 parts of a data set" in note for note in notes) == parts


def test_a_folder_is_refused_with_the_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "validation-00000-of-00001.parquet").touch()
    (tmp_path / "README.md").touch()
    _, findings, _ = check(["--do_predict", f"--predict_file={tmp_path}", "--init_checkpoint=x"], {})
    said = f"{tmp_path}: a folder; give the file in it: validation-00000-of-00001.parquet"
    assert ("predict_file", said) in findings


def test_without_pyarrow_its_extra_is_named_before_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columnar.importlib.util, "find_spec", lambda name: None)
    said = refusal(written(columns(ROWS)), tmp_path)
    assert said.startswith("a parquet file needs pyarrow; pip install npu-launch[parquet]")
    assert problem(str(tmp_path / "q.parquet")) == said


def test_json_is_read_without_pyarrow(document: dict[str, Any], tmp_path: Path) -> None:
    from subprocess import run

    (tmp_path / "q.json").write_text(json.dumps(document))
    code = "import sys; from squad.data.squad_file import load_questions as load; load(sys.argv[1])"
    code += "; sys.exit(sorted({'pyarrow', 'csv', 'numpy'} & set(sys.modules)) != [])"
    assert run([sys.executable, "-c", code, str(tmp_path / "q.json")], check=False).returncode == 0


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(["parquet", "stream", "file"]), place=st.floats(0, 1), put=st.binary(max_size=4),
       cut=st.booleans())  # fmt: skip
def test_any_damage_is_one_line(
    kind: str, place: float, put: bytes, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = written(columns(ROWS), kind)
    at = max(6, int(place * len(content)))
    content = content[:at] + put + (b"" if cut else content[at + len(put) :])
    path = tmp_path_factory.getbasetemp() / "fuzz.parquet"
    path.write_bytes(content)
    try:
        load_questions(str(path))
        read_squad(str(path), True, True, True, "all")
    except DataError as error:
        assert all(line.isprintable() and len(line) < 600 for line in str(error).split("\n"))


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_two_columns_of_one_name_are_refused(kind: str, tmp_path: Path) -> None:
    names = ["id", "context", "context", "question"]
    table = pa.Table.from_arrays([pa.array(["q"])] * 4, names=names)
    said = "several columns are named context; rename all but one"
    assert refusal(written(table, kind), tmp_path).endswith(said)
