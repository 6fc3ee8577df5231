"""Rows equal to google-research/bert's, on real and on awkward text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squad.data.examples import Example, read_squad
from squad.data.features import build_features
from squad.data.tokenizer import Tokenizer
from squad.features import main

GOLDEN = {
    "dev_384_128_64": ("dev", False, 384, 128, 64),
    "dev_128_32_16": ("dev", False, 128, 32, 16),
    "train_384_128_64": ("train", True, 384, 128, 64),
    "odd_0_384_128_64": ("odd", False, 384, 128, 64),
    "odd_1_384_128_64": ("odd", True, 384, 128, 64),
}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_every_column_equals_the_reference(name: str, minilm: Path, request: pytest.FixtureRequest) -> None:
    data, training, length, stride, query = GOLDEN[name]
    if data == "odd":
        folder = questions = request.getfixturevalue("golden")
    else:  # real questions
        shared = request.getfixturevalue("shared")
        folder, questions = shared / "golden", shared / "data" / "squad2"
    golden = np.load(str(folder / f"features_{name}.npz"))
    examples = read_squad(str(questions / f"{data}.json"), training, True)
    features = build_features(examples, Tokenizer(str(minilm / "vocab.txt")), length, stride, query, training)
    ids = np.array([example.qas_id for example in examples])[features.example_index]
    same = known(golden, ids)
    assert np.array_equal(golden["qas_id"], ids[same])
    for column in sorted(set(golden.files) - {"qas_id"}):
        assert np.array_equal(golden[column], getattr(features, column)[same]), column
    left_out = {example.qas_id for example in examples} - set(golden["qas_id"])
    assert len(left_out) == (3 if name.startswith("odd_1") else 0)


def known(golden: Any, ids: np.ndarray) -> np.ndarray:
    """Mark the rows of questions that the reference has.

    It leaves out three of odd.json, whose answers stand at their offset and hold U+3000 or U+00A0: these are
    white space to it in the answer and letters in the passage.
    """
    return np.isin(ids, golden["qas_id"])


@pytest.fixture
def tokenizer(vocabulary: Path) -> Tokenizer:
    return Tokenizer(str(vocabulary))


def question(words: str, text: str = "who", answer: str = "", start: int = -1, end: int = -1) -> Example:
    return Example("q", text, words.split(), answer, start, end, start < 0)


def rows(examples: list[Example], tokenizer: Tokenizer, length: int = 10, stride: int = 2, **more):
    return build_features(examples, tokenizer, length, stride, 4, training=True, **more)


def test_a_row_is_cls_question_sep_passage_sep_padding(tokenizer: Tokenizer) -> None:
    features = rows([question("a b")], tokenizer)
    names = ["[CLS]", "who", "[SEP]", "a", "b", "[SEP]"]
    assert features.input_ids[0].tolist() == [tokenizer.vocab[name] for name in names] + [0] * 4
    assert features.input_mask[0].tolist() == [1] * 6 + [0] * 4
    assert features.segment_ids[0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert features.token_to_orig_map[0].tolist() == [-1, -1, -1, 0, 1, -1, -1, -1, -1, -1]
    assert features.lengths.tolist() == [6]
    assert features.unique_ids.tolist() == [1000000000]


def test_an_answer_is_marked_only_in_windows_that_hold_it_whole(tokenizer: Tokenizer) -> None:
    features = rows([question("a b c d e f g h", answer="c d", start=2, end=3)], tokenizer, stride=3)
    assert features.doc_span_index.tolist() == [0, 1]  # tokens 0-5, then 3-7
    assert features.start_positions.tolist() == [5, 0]
    assert features.end_positions.tolist() == [6, 0]
    assert features.is_impossible.tolist() == [False, False]


def test_an_answer_within_a_word_is_narrowed_to_its_own_tokens(tokenizer: Tokenizer) -> None:
    features = rows([question("a (b-c). d", answer="b", start=1, end=1)], tokenizer, length=20)
    assert features.start_positions.tolist() == features.end_positions.tolist() == [5]


@pytest.mark.parametrize(("start", "column"), [(0, 3), (7, 10)])
def test_of_several_places_in_a_word_the_one_at_the_offset_is_marked(
    start: int, column: int, tokenizer: Tokenizer, document: dict[str, Any], squad_file: Any
) -> None:
    paragraph = document["data"][0]["paragraphs"][0]
    paragraph["context"] = "北a-b,c-北a d"
    paragraph["qas"][0]["answers"][0] = {"text": "北a", "answer_start": start}
    examples = read_squad(squad_file(document), True, True)
    features = rows(examples, tokenizer, length=20)
    assert (features.start_positions[0], features.end_positions[0]) == (column, column + 1)


def test_each_token_has_its_maximum_context_in_exactly_one_window(tokenizer: Tokenizer) -> None:
    for length in range(1, 9):
        features = rows([question(" ".join("abcdefgh"[:length]))], tokenizer, length=8, stride=1)
        best = features.token_is_max_context == 1
        assert sorted(features.token_to_orig_map[best].tolist()) == list(range(length))


def test_a_passage_without_tokens_gets_no_row(tokenizer: Tokenizer) -> None:
    examples = [question("\x00"), question("a")]
    assert rows(examples, tokenizer).example_index.tolist() == [1]


def test_no_room_beside_the_question_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="no room for a passage beside a question of 4 tokens"):
        rows([question("a", "who who who who who")], tokenizer, length=7)


def test_a_stride_of_nothing_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="doc_stride 0"):
        rows([question("a")], tokenizer, stride=0)


def test_without_maps_the_token_maps_stay_away(tokenizer: Tokenizer) -> None:
    features = rows([question("a")], tokenizer, maps=False)
    assert features.token_to_orig_map is None and features.token_is_max_context is None


def test_progress_ends_at_the_number_of_rows(tokenizer: Tokenizer) -> None:
    seen: list[int] = []
    features = rows([question("a")] * 3, tokenizer, progress=lambda done, total: seen.extend([done, total]))
    assert seen[-2:] == [len(features), len(features)] == [3, 3]


def test_the_program_writes_the_golden_columns(golden: Path, minilm: Path, tmp_path: Path) -> None:
    output = tmp_path / "odd.npz"
    command = [str(golden / "odd.json"), "--vocab_file", str(minilm / "vocab.txt")]
    command += ["--output", str(output), "--is_training"]
    assert main(command) == 0
    reference = np.load(str(golden / "features_odd_1_384_128_64.npz"))
    written = np.load(str(output))
    assert sorted(written.files) == sorted(reference.files)
    same = known(reference, written["qas_id"])
    assert all(np.array_equal(written[name][same], reference[name]) for name in reference.files)
    assert all(written[name].dtype == reference[name].dtype for name in reference.files)


def test_the_program_says_what_is_wrong_in_one_line(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "no.json"), "--vocab_file", "v", "--output", str(tmp_path / "o")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max_query_length", "-1"), ("--max_seq_length", "0"), ("--doc_stride", "1e9"), ("--doc_stride", "")],
)
def test_a_length_that_is_none_is_refused(
    option: str, value: str, squad_file: Any, document: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([squad_file(document), "--vocab_file", "v", "--output", "o", option, value])
    assert left.value.code == 2
    assert f"argument {option}: {value!r} is no number of tokens; give 1 to" in capsys.readouterr().err


def test_the_program_learns_of_several_answers_as_a_training_does(
    squad_file: Any, document: Any, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = document["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    answers.append({"text": "Ada", "answer_start": 4})
    output = str(tmp_path / "o.npz")
    command = [squad_file(document), "--vocab_file", str(vocabulary), "--output", output, "--is_training"]
    assert main(command) == 2
    assert "--train_answers=first, all or most" in capsys.readouterr().err
    assert main([*command, "--train_answers=all"]) == 0
    assert list(np.load(output)["qas_id"]) == ["q1", "q1", "q2"]
    assert capsys.readouterr().out == f"{output}: 3 rows of 2 questions\n"


def test_an_output_that_cannot_be_written_is_one_line(
    squad_file: Any, document: Any, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([squad_file(document), "--vocab_file", str(vocabulary), "--output", str(tmp_path)]) == 2
    assert f"squad.features: {tmp_path}: Is a directory\n" in capsys.readouterr().err
