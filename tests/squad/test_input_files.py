"""The program, whole, on the files that people have: the same results as of SQuAD's own layout."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any, Callable

import pytest

from squad import evaluate
from squad.run_squad import main
from tests.squad.conftest import flags, squad_document

pytest.importorskip("tensorflow")


def rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Make rows as Hugging Face's datasets have them."""
    found = []
    for paragraph in document["data"][0]["paragraphs"]:
        for question in paragraph["qas"]:
            answers = {key: [one[key] for one in question["answers"]] for key in ("text", "answer_start")}
            row = {"id": question["id"], "title": "t", "context": paragraph["context"]}
            found.append(dict(row, question=question["question"], answers=answers))
    return found


def as_packed_lines(listed: list[dict[str, Any]], path: Path) -> None:
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, listed)).encode()))


def as_parquet(listed: list[dict[str, Any]], path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(listed), str(path))


def as_csv(listed: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(listed[0])
        table.writerows([*list(row.values())[:-1], json.dumps(row["answers"])] for row in listed)


@pytest.mark.parametrize("write", [as_packed_lines, as_parquet, as_csv])
def test_each_kind_of_file_is_trained_on_answered_and_scored(
    write: Callable[[list[dict[str, Any]], Path], None], tiny: Path, plain: Path, tmp_path: Path, capsys: Any
) -> None:
    train, dev, out = tmp_path / "train", tmp_path / "dev", tmp_path / "out"
    write(rows(squad_document(0, 12)), train)
    write(rows(squad_document(500, 5)), dev)
    wish = flags(tiny, train_file=train, predict_file=dev, output_dir=out, **WISH)
    assert main([*wish, f"--input_files_dir={tmp_path / 'cache'}"]) == 0
    said = capsys.readouterr().out
    for name in ("predictions.json", "nbest_predictions.json", "null_odds.json"):
        assert (out / name).read_text() == (plain / name).read_text()
    # The official script, here ours, gets SQuAD's own layout: it knows no other.
    assert f"reads {out / 'questions.json'}" in said and "warning: the evaluations differ" not in said
    assert evaluate.main([str(dev), str(out / "predictions.json")]) == 0
    ours = json.loads(capsys.readouterr().out)
    assert evaluate.main([str(tiny / "dev.json"), str(out / "predictions.json")]) == 0
    assert json.loads(capsys.readouterr().out) == ours
    assert (out / "predictions.csv").exists() == (write is as_csv)


WISH: dict[str, Any] = {
    "do_train": True, "do_predict": True, "num_train_steps": 2, "eval_script": evaluate.__file__,
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of what the program makes of SQuAD's own layout."""
    out = tmp_path_factory.mktemp("plain")
    assert main(flags(tiny, output_dir=out, **WISH)) == 0
    assert not (out / "questions.json").exists() and not (out / "predictions.csv").exists()
    return out


def test_a_table_of_questions_is_answered_in_a_table(
    tiny: Path, finished: str, tmp_path: Path, capsys: Any
) -> None:
    dev, out = tmp_path / "questions.csv", tmp_path / "out"
    dev.write_text(
        'Question,Passage\n"when was mr b born, ""then""?",mr b was born in 1002.\nwhen?,in 1003\n'
    )
    assert main(flags(tiny, do_predict=True, predict_file=dev, init_checkpoint=finished, output_dir=out)) == 0
    assert "contains no reference answers, so nothing is scored" in capsys.readouterr().out
    raw = (out / "predictions.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfid,question,answer,score\r\n")
    listed = list(csv.DictReader(raw.decode("utf-8-sig").splitlines()))
    assert [row["question"] for row in listed] == ['when was mr b born, "then"?', "when?"]
    assert {row["id"]: row["answer"] for row in listed} == json.loads((out / "predictions.json").read_text())
    assert all(0 <= float(row["score"]) <= 1 for row in listed)


def test_the_first_questions_alone_are_trained_on_and_answered(
    tiny: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    cut = flags(tiny, output_dir=out, max_train_samples=3, max_eval_samples=4, **WISH)
    assert main([*cut, f"--input_files_dir={tmp_path / 'cache'}", "--use_tfrecord"]) == 0
    said = capsys.readouterr().out
    assert "train.json: 3 questions, " in said and "dev.json: 4 questions, " in said
    assert list(json.loads((out / "predictions.json").read_text())) == ["q500", "n500", "q501", "n501"]
    assert "on 4 questions" in said and "not run, as only some questions are answered" in said
    data = json.loads((out / "model.ckpt-2.json").read_text())["data"]
    assert (data["max_train_samples"], data["train_answers"]) == (3, "")
    # A cache of some questions is none of all.
    more = flags(tiny, output_dir=tmp_path / "more", do_train=True, num_train_steps=1)
    assert main([*more, f"--input_files_dir={tmp_path / 'cache'}", "--use_tfrecord"]) == 0
    assert "it was made with max_train_samples 3 instead of None" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["max_train_samples", "max_eval_samples"])
def test_a_negative_number_of_samples_is_refused(name: str, tiny: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(flags(tiny, output_dir=tmp_path, do_train=True, **{name: -1})) == 2
    assert f"--{name}: -1 is negative" in capsys.readouterr().err
