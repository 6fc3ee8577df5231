"""The reader: google-research/bert's words and positions, and one line for every kind of bad file."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any, Callable

import pytest

from squad import load
from squad.data import examples
from squad.data.examples import overlap, read_squad
from squad.errors import DataError

Write = Callable[[Any], str]


def paragraph(document: dict[str, Any]) -> dict[str, Any]:
    return document["data"][0]["paragraphs"][0]


def messages(path: str, training: bool = True, negative: bool = True) -> list[str]:
    """Give the lines of the error of a file, without its path."""
    with pytest.raises(DataError) as caught:
        read_squad(path, training, negative)
    assert str(caught.value).startswith(path + ":")
    return [line.replace(path + ":", "", 1).strip() for line in str(caught.value).split("\n")]


def message(path: str, training: bool = True, negative: bool = True) -> str:
    """Give the error of a file with one fault, without its path."""
    (line,) = messages(path, training, negative)
    return line


def test_answers_become_word_positions(document: dict[str, Any], squad_file: Write) -> None:
    first, second = read_squad(squad_file(document), training=True, version_2_with_negative=True)
    assert first.doc_tokens == ["The", "Ada", "Lovelace", "wrote."]
    assert (first.start_position, first.end_position, first.orig_answer_text) == (1, 2, "Ada Lovelace")
    assert (second.is_impossible, second.start_position, second.orig_answer_text) == (True, -1, "")
    assert first.doc_tokens is second.doc_tokens


def test_answers_of_a_predict_file_are_not_looked_at(document: dict[str, Any], squad_file: Write) -> None:
    for question in paragraph(document)["qas"]:
        del question["answers"], question["is_impossible"]
    examples = read_squad(squad_file(document), training=False, version_2_with_negative=True)
    assert [e.qas_id for e in examples] == ["q1", "q2"]
    assert examples[0].start_position is None


def test_broken_json_is_named_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"data": [\n  {"title": }\n]}')
    assert message(str(path)).startswith("2:13: invalid JSON")


def test_a_cut_off_file_is_broken_json(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(document)[:-7])
    assert "invalid JSON" in message(str(path))


def test_no_file_a_folder_and_other_bytes_are_said_in_one_line(tmp_path: Path) -> None:
    assert message(str(tmp_path / "none.json")) == "No such file or directory"
    assert message(str(tmp_path)) == "a folder; give the file in it"
    path = tmp_path / "latin.json"
    path.write_bytes('{"data": "é"}'.encode("latin-1"))
    assert message(str(path)).startswith("not UTF-8 at byte 10")
    path.write_text("[" * 200000)
    assert "too deeply" in message(str(path))


@pytest.mark.parametrize("content", ["text", 3, None])
def test_json_that_is_no_object_is_refused(content: Any, squad_file: Write) -> None:
    assert "not a JSON object" in message(squad_file(content))


def test_a_byte_order_mark_is_ignored(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_text("\ufeff" + json.dumps(document), encoding="utf-8")
    assert len(read_squad(str(path), True, True)) == 2


@pytest.mark.parametrize(
    "place",
    [
        "data",
        "data[0].paragraphs",
        "data[0].paragraphs[0].context",
        "data[0].paragraphs[0].qas",
        "data[0].paragraphs[0].qas[0].id",
        "data[0].paragraphs[0].qas[0].question",
        "data[0].paragraphs[0].qas[0].answers",
        "data[0].paragraphs[0].qas[0].answers[0].text",
        "data[0].paragraphs[0].qas[0].answers[0].answer_start",
    ],
)
def test_a_missing_or_mistyped_key_is_named_by_its_path(
    place: str, document: dict[str, Any], squad_file: Write
) -> None:
    holder: Any = document
    *parents, key = place.replace("[0]", ".0").split(".")
    for parent in parents:
        holder = holder[int(parent) if parent == "0" else parent]
    holder[key] = {"wrong": "type"}
    assert message(squad_file(document)).startswith(place + ": {'wrong': 'type'} is not a")
    del holder[key]
    assert message(squad_file(document)).startswith(place + ": missing")


def test_true_is_no_integer_and_a_list_no_object(document: dict[str, Any], squad_file: Write) -> None:
    paragraph(document)["qas"][0]["answers"][0]["answer_start"] = True
    assert "answer_start: True is not an integer" in message(squad_file(document))
    document["data"][0] = ["paragraphs"]
    assert message(squad_file(document)).startswith("data[0].paragraphs: a list, not in a JSON object")


@pytest.mark.parametrize("start", [8, 11, -1, -19, 22, 23, 10**6])
def test_an_answer_that_is_not_at_its_offset_is_refused_or_skipped(
    start: int, document: dict[str, Any], squad_file: Write
) -> None:
    paragraph(document)["qas"][0]["answers"][0]["answer_start"] = start
    path = squad_file(document)
    assert message(path) == (
        "1 answer is not at the given offset: data[0].paragraphs[0].qas[0].answers[0]: 'Ada Lovelace' at"
        f" {start} (question q1); correct them or give --skip_bad_answers"
    )
    examples = read_squad(path, True, True, skip_bad_answers=True)
    assert [e.qas_id for e in examples] == ["q2"]
    assert len(examples.notes) == 1 and examples.notes[0].endswith("skipped")


def test_many_bad_answers_are_counted_and_the_first_listed(
    document: dict[str, Any], squad_file: Write
) -> None:
    bad = paragraph(document)["qas"][0]
    bad["answers"][0]["text"] = "nobody"
    paragraph(document)["qas"] = [dict(bad, id=f"b{n}") for n in range(25)]
    lines = messages(squad_file(document))
    assert lines[0] == "25 answers are not at the given offset; correct them or give --skip_bad_answers"
    assert lines[1].strip() == "data[0].paragraphs[0].qas[0].answers[0]: 'nobody' at 4 (question b0)"
    assert (len(lines), lines[-1].strip()) == (22, "and 5 more")


def test_only_bad_answers_leave_no_questions(document: dict[str, Any], squad_file: Write) -> None:
    paragraph(document)["qas"] = paragraph(document)["qas"][:1]
    paragraph(document)["qas"][0]["answers"][0]["answer_start"] = 99
    with pytest.raises(DataError, match="no questions"):
        read_squad(squad_file(document), True, True, skip_bad_answers=True)


def test_a_duplicate_id_names_both_places(document: dict[str, Any], squad_file: Write) -> None:
    paragraph(document)["qas"][1]["id"] = "q1"
    text = message(squad_file(document))
    where, first = "data[0].paragraphs[0].qas[1].id", "data[0].paragraphs[0].qas[0]"
    assert text.startswith(f"{where}: duplicate id q1, first used by {first}")


@pytest.mark.parametrize("context", ["", " \n\t "])
def test_an_empty_context_is_refused(context: str, document: dict[str, Any], squad_file: Write) -> None:
    paragraph(document)["context"] = context
    assert message(squad_file(document)).startswith("data[0].paragraphs[0].context: empty")


def test_a_file_without_questions_is_refused(squad_file: Write) -> None:
    assert "no questions" in message(squad_file({"version": "v2.0", "data": []}))


@pytest.mark.parametrize("version", ["1.1", "v1.1", "1.3", 1.1, None, "v2.0"])
def test_a_1_1_file_is_read_with_and_without_version_2_with_negative(
    version: Any, document: dict[str, Any], squad_file: Write
) -> None:
    document["version"] = version
    paragraph(document)["qas"] = paragraph(document)["qas"][:1]
    del paragraph(document)["qas"][0]["is_impossible"]
    path = squad_file(document)
    for training, negative in product((True, False), repeat=2):
        found = read_squad(path, training, negative)
        assert len(found) == 1 and not found[0].is_impossible
        assert any("every question has an answer" in note for note in found.notes) == (training and negative)


@pytest.mark.parametrize("none", [{"answers": []}, {"answers": None}, {"is_impossible": None, "answers": []}])
def test_empty_answers_say_that_a_question_has_none_where_is_impossible_is_missing(
    none: Any, document: dict[str, Any], squad_file: Write
) -> None:
    paragraph(document)["qas"][1] = dict(none, id="q2", question="where")
    path = squad_file(document)
    assert [e.is_impossible for e in read_squad(path, True, True)] == [False, True]
    # What the other setting is told leads to the one that works.
    assert "qas[1].answers: none, so this is a SQuAD 2.0 file; give --ver" in message(path, negative=False)


@pytest.mark.parametrize("value", [1, 1.0, "true", "True", "1"])
def test_is_impossible_may_be_a_number_or_a_text(
    value: Any, document: dict[str, Any], squad_file: Write
) -> None:
    first, second = paragraph(document)["qas"]
    first["is_impossible"], second["is_impossible"] = {"1": "0", "true": "false"}.get(value, 0), value
    del second["answers"]
    assert [e.is_impossible for e in read_squad(squad_file(document), True, True)] == [False, True]
    second["is_impossible"] = "perhaps"
    assert "qas[1].is_impossible: 'perhaps' is not true or false" in message(squad_file(document))


@pytest.mark.parametrize("start", [4.0, "4", " 4 "])
def test_an_offset_may_be_written_as_float_or_text(
    start: Any, document: dict[str, Any], squad_file: Write
) -> None:
    paragraph(document)["qas"][0]["answers"][0]["answer_start"] = start
    assert read_squad(squad_file(document), True, True)[0].start_position == 1


@pytest.mark.parametrize("value", [None, 1900, True, ["x"]])
@pytest.mark.parametrize("training", [True, False])
def test_an_answer_that_is_no_text_is_refused_before_anything_is_predicted(
    value: Any, training: bool, document: dict[str, Any], squad_file: Write
) -> None:
    paragraph(document)["qas"][0]["answers"][0]["text"] = value
    found = message(squad_file(document), training)
    place = "data[0].paragraphs[0].qas[0].answers[0].text"
    written = "null" if value is None else repr(value)
    assert found == f"{place}: {written} is not a string; give a SQuAD file (question q1)"


def test_whole_numbers_as_ids_become_texts(document: dict[str, Any], squad_file: Write) -> None:
    first, second = paragraph(document)["qas"]
    first["id"], second["id"] = 43958, 43959.0
    assert [e.qas_id for e in read_squad(squad_file(document), True, True)] == ["43958", "43959"]
    second["id"] = "43958"
    assert "qas[1].id: duplicate id 43958" in message(squad_file(document))
    second["id"] = 0.5
    assert "qas[1].id: 0.5 is not a string or a whole number" in message(squad_file(document))


def test_all_faults_of_a_file_are_named_in_one_run(document: dict[str, Any], squad_file: Write) -> None:
    first, second = paragraph(document)["qas"]
    bad = dict(first, id="q3", answers=[{"text": None, "answer_start": "x"}])
    far = dict(first, id="q4", answers=[{"text": "Ada", "answer_start": 9}])
    paragraph(document)["qas"] = [first, dict(second, question=7), bad, far, 5, dict(first, id="q1")]
    document["data"].append({"title": "x"})
    found = "\n".join(messages(squad_file(document)))
    for part in (
        "qas[1].question: 7 is not a string; give a SQuAD file (question q2)",
        "qas[2].answers[0].text: null is not",
        "qas[2].answers[0].answer_start: 'x' is not an integer",
        "qas[4].id: 5, not in a JSON object",
        "qas[5].id: duplicate id q1",
        "data[1].paragraphs: missing (the object has title)",
        "1 answer is not at the given offset: data[0].paragraphs[0].qas[3].answers[0]",
    ):
        assert part in found
    assert found.count("\n") == 6


def test_the_faults_that_are_shown_are_bounded(document: dict[str, Any], squad_file: Write) -> None:
    question = paragraph(document)["qas"][0]
    paragraph(document)["qas"] = [dict(question, id=f"q{n}", question=None) for n in range(100)]
    lines = messages(squad_file(document))
    assert (len(lines), lines[-1]) == (21, "and 80 more")


def test_an_answer_without_a_word_is_noted(document: dict[str, Any], squad_file: Write) -> None:
    question = document["data"][0]["paragraphs"][0]["qas"][0]
    question["answers"] = [{"text": "", "answer_start": 0}]
    found = read_squad(squad_file(document), True, True, word_split="google")
    assert "1 answer is empty or white space (q1): words of the passage are learnt" in found.notes[0]
    assert (found[0].start_position, found[0].end_position) == (0, 3)  # all of it, as Google's


def test_an_empty_question_is_read_and_noted(document: dict[str, Any], squad_file: Write) -> None:
    paragraph(document)["qas"][0]["question"] = " "
    found = read_squad(squad_file(document), True, True)
    assert len(found) == 2 and "1 question is empty (q1)" in found.notes[0]


def test_a_2_0_file_without_version_2_with_negative_is_refused(
    document: dict[str, Any], squad_file: Write
) -> None:
    assert "give --version_2_with_negative" in message(squad_file(document), negative=False)


def test_a_dev_file_given_as_train_file_is_refused(document: dict[str, Any], squad_file: Write) -> None:
    answers = paragraph(document)["qas"][0]["answers"]
    answers.append(answers[0])
    found = message(squad_file(document))
    assert "2 answers, training needs exactly one, so this may be a dev file; give the train file" in found
    assert found.endswith("--train_answers=first, all or most (question q1)")


def answer(text: str, start: int) -> dict[str, Any]:
    return {"text": text, "answer_start": start}


ADA, LOVELACE, WROTE = answer("Ada", 4), answer("Lovelace", 8), answer("wrote", 17)


@pytest.mark.parametrize(
    ("rule", "given", "learnt"),
    [
        ("first", [LOVELACE, ADA, ADA], ["Lovelace"]),
        ("all", [LOVELACE, ADA, ADA], ["Lovelace", "Ada"]),
        ("all", [answer("e", 2), answer("e", 11)], ["e", "e"]),  # the same text at two places
        ("all", [ADA, answer("Ada Lovelace", 4)], ["Ada", "Ada Lovelace"]),  # other texts at the same place
        ("most", [LOVELACE, ADA, ADA], ["Ada"]),
        ("most", [WROTE, ADA, LOVELACE, ADA, WROTE], ["wrote"]),  # the first of equals
        ("most", [ADA], ["Ada"]),
    ],
)
def test_of_several_answers_training_learns_what_it_is_told(
    rule: str, given: list[Any], learnt: list[str], document: dict[str, Any], squad_file: Write
) -> None:
    paragraph(document)["qas"][0]["answers"] = given
    *found, impossible = read_squad(squad_file(document), True, True, several=rule)
    assert [example.orig_answer_text for example in found] == learnt and impossible.is_impossible
    assert {example.qas_id for example in found} == {"q1"}  # an example more is no question more
    assert len({(example.start_position, example.end_position) for example in found}) == len(learnt)


def test_of_several_answers_the_bad_ones_alone_are_skipped(
    document: dict[str, Any], squad_file: Write
) -> None:
    paragraph(document)["qas"][0]["answers"] = [ADA, answer("Ada", 17), WROTE]
    found = read_squad(squad_file(document), True, True, skip_bad_answers=True, several="all")
    assert [example.orig_answer_text for example in found] == ["Ada", "wrote", ""]
    assert "qas[0].answers[1]: 'Ada' at 17 (question q1); skipped" in found.notes[0]
    assert "1 question has several answers; learnt: all that differ, an example" in found.notes[1]


@pytest.mark.parametrize("training", [True, False])
def test_the_first_questions_alone_are_read(
    training: bool, document: dict[str, Any], squad_file: Write
) -> None:
    first, second = paragraph(document)["qas"]
    first["answers"] = [ADA, WROTE]
    paragraph(document)["qas"] = [first, second, dict(first, id="q3")]
    # A limit counts questions, not the examples or features that are made of them.
    found = read_squad(squad_file(document), training, True, several="all", limit=2)
    assert [example.qas_id for example in found] == (["q1", "q1", "q2"] if training else ["q1", "q2"])
    assert any(note.endswith(": the first 2 questions alone are read") for note in found.notes)
    wanted = {"q2", "q3"}.__contains__
    part = read_squad(squad_file(document), training, True, several="all", limit=1, wanted=wanted)
    assert [example.qas_id for example in part] == ["q2"]
    whole = read_squad(squad_file(document), training, True, several="all", limit=3)
    assert whole == read_squad(squad_file(document), training, True, several="all")
    assert not any("alone are read" in note for note in whole.notes)


def test_an_answerable_question_without_answer_is_refused(
    document: dict[str, Any], squad_file: Write
) -> None:
    paragraph(document)["qas"][0]["answers"] = []
    assert "answers: none, but is_impossible is false; give one, or" in message(squad_file(document))


def test_questions_of_the_train_file_in_the_predict_file_are_counted(
    document: dict[str, Any], squad_file: Write
) -> None:
    train = read_squad(squad_file(document), True, True)
    paragraph(document)["qas"][0]["id"] = "other"
    assert overlap(train, read_squad(squad_file(document), False, True)) == 1
    assert overlap(train, train) == 2


def test_a_file_that_was_looked_at_is_not_parsed_again(
    document: dict[str, Any], squad_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = squad_file(document)
    expected = read_squad(path, training=True, version_2_with_negative=True)
    source = load.Source(path)
    assert source.look() == document and source.look() is source.look()
    monkeypatch.setattr(examples, "load_questions", lambda path: pytest.fail("parsed again"))
    assert read_squad(path, True, True, document=source.take()) == expected
    assert source.take() is None  # a parsed file is large
