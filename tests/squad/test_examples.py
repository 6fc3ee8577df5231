"""The reader: google-research/bert's words and positions, and one line for every kind of bad file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squad.data.examples import overlap, read_squad, split_words
from squad.errors import DataError

Write = Callable[[Any], str]


def paragraph(document: dict[str, Any]) -> dict[str, Any]:
    return document["data"][0]["paragraphs"][0]


def message(path: str, training: bool = True, negative: bool = True) -> str:
    """Give the error of a file without its path."""
    with pytest.raises(DataError) as caught:
        read_squad(path, training, negative)
    text = str(caught.value)
    assert text.startswith(path + ":") and "\n" not in text
    return text[len(path) + 1 :].strip()


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


def test_words_end_at_five_kinds_of_space_only() -> None:
    assert split_words(" a\tb\nc\rd\u202fe\u00a0f\u2003g\x0bh ") == [
        "a",
        "b",
        "c",
        "d",
        "e\u00a0f\u2003g\x0bh",
    ]


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
    assert message(str(tmp_path)) == "Is a directory"
    path = tmp_path / "latin.json"
    path.write_bytes('{"data": "é"}'.encode("latin-1"))
    assert message(str(path)).startswith("not UTF-8 at byte 10")
    path.write_text("[" * 200000)
    assert "too deeply" in message(str(path))


@pytest.mark.parametrize("content", [[], "text", 3, None])
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
    assert message(squad_file(document)).startswith("data[0].paragraphs: not in a JSON object")


@pytest.mark.parametrize("start", [8, 11, -1, -19, 22, 23, 10**6])
def test_an_answer_that_is_not_at_its_offset_is_refused_or_skipped(
    start: int, document: dict[str, Any], squad_file: Write
) -> None:
    paragraph(document)["qas"][0]["answers"][0]["answer_start"] = start
    path = squad_file(document)
    assert message(path) == (
        f"1 answer is not at the given offset: q1 ('Ada Lovelace' at {start}); correct them or give "
        "--skip_bad_answers"
    )
    examples = read_squad(path, True, True, skip_bad_answers=True)
    assert [e.qas_id for e in examples] == ["q2"]
    assert len(examples.notes) == 1 and examples.notes[0].endswith("skipped")


def test_many_bad_answers_are_counted_and_the_first_listed(
    document: dict[str, Any], squad_file: Write
) -> None:
    bad = paragraph(document)["qas"][0]
    bad["answers"][0]["text"] = "nobody"
    paragraph(document)["qas"] = [dict(bad, id=f"b{n}") for n in range(5)]
    text = message(squad_file(document))
    assert text.startswith("5 answers are not at the given offset: b0 (")
    assert "b2 (" in text and "b3" not in text and ", ..." in text


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


def test_a_1_1_file_with_version_2_with_negative_is_refused(
    document: dict[str, Any], squad_file: Write
) -> None:
    document["version"] = "1.1"
    paragraph(document)["qas"] = paragraph(document)["qas"][:1]
    del paragraph(document)["qas"][0]["is_impossible"]
    path = squad_file(document)
    for training in (True, False):
        assert "leave out --version_2_with_negative" in message(path, training)
        assert len(read_squad(path, training, False)) == 1


def test_a_2_0_file_without_version_2_with_negative_is_refused(
    document: dict[str, Any], squad_file: Write
) -> None:
    assert "give --version_2_with_negative" in message(squad_file(document), negative=False)


def test_a_dev_file_given_as_train_file_is_refused(document: dict[str, Any], squad_file: Write) -> None:
    answers = paragraph(document)["qas"][0]["answers"]
    answers.append(answers[0])
    assert "2 answers, training needs exactly one, so this may be a dev file" in message(squad_file(document))


def test_an_answerable_question_without_answer_is_refused(
    document: dict[str, Any], squad_file: Write
) -> None:
    paragraph(document)["qas"][0]["answers"] = []
    assert "answers: none; give one, or is_impossible: true" in message(squad_file(document))


def test_questions_of_the_train_file_in_the_predict_file_are_counted(
    document: dict[str, Any], squad_file: Write
) -> None:
    train = read_squad(squad_file(document), True, True)
    paragraph(document)["qas"][0]["id"] = "other"
    assert overlap(train, read_squad(squad_file(document), False, True)) == 1
    assert overlap(train, train) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def answer(context: str) -> st.SearchStrategy:
    texts = st.text(max_size=5) | st.sampled_from([context[i:j] for i in range(4) for j in range(1, 9)])
    return st.fixed_dictionaries({"text": texts | JSON, "answer_start": st.integers(-3, 30) | JSON})


@st.composite
def questions(draw: Callable[..., Any], context: str) -> dict[str, Any]:
    keys = {
        "id": st.text(max_size=3) | JSON,
        "question": st.text(max_size=9) | JSON,
        "answers": st.lists(answer(context), max_size=2) | JSON,
        "is_impossible": st.booleans() | JSON,
    }
    full = draw(st.fixed_dictionaries(keys))
    for key in draw(st.lists(st.sampled_from(sorted(keys)), max_size=1)):
        del full[key]
    return full


@st.composite
def documents(draw: Callable[..., Any]) -> Any:
    context = draw(st.text(min_size=1, max_size=30))
    qas = draw(st.lists(questions(context), max_size=3) | JSON)
    held = {"context": context, "qas": qas}
    return draw(st.just({"version": draw(JSON), "data": [{"paragraphs": [held]}]}) | JSON)


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(document=documents(), training=st.booleans(), negative=st.booleans(), skip=st.booleans())
def test_any_json_is_read_or_refused_in_one_line(
    document: Any, training: bool, negative: bool, skip: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    try:
        examples = read_squad(str(path), training, negative, skip)
    except DataError as error:
        assert "\n" not in str(error)
        return
    for example in examples:
        if training and not example.is_impossible:
            assert -1 <= example.start_position <= example.end_position < len(example.doc_tokens)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=60))
def test_any_bytes_are_refused_in_one_line(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.bin"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_squad(str(path), True, True)
    assert "\n" not in str(caught.value)
