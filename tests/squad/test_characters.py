"""Answers known by their characters: from a file to columns, and from columns back to text."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squad.answers.answer_text import AnswerText
from squad.answers.nbest import Options, rank
from squad.data.characters import SHARE, CharacterPassage, choose
from squad.data.examples import asked, read_squad
from squad.data.features import build_features
from squad.data.token_places import TokenPlaces
from squad.data.tokenizer import Tokenizer, basic_tokens

PIECES = (
    "東 京 塔 国 葛 𠮷 が か タワー は ##は ##タ ##ワ パリ 파리 ##에 ##에서 서울 ᄑ ##ᅡ ##리 ##ᄅ ##ᅵ ##ᅦ"
    " กรุง ##เทพ ก ##ร ##ุ ##ง"
)
LATIN = "the cafe ##s 19 ##19 ##38 1 ##1 ##2 ３ ##4 [ ] ( ) - . , 。 、 「 」 % # i ##i"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *PIECES.split(), *LATIN.split()]


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("characters") / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return str(path)


RULES = [(True, None, True), (False, None, True), (True, False, True), (False, None, False)]
SAMPLES = st.sampled_from(
    "東京 塔 國 𠮷 \U0002b81f が か\u3099 タワー 葛\U000e0100 파리에서 서울 กรุงเทพ ที่ ຢູ່"
    " Café cafe\u0301s 1938年 ３4 12% 「 」。 ( - \u200b \ufeff 👩\u200d🚀 👍🏽 [UNK]"
    " ##s İi ΑΣ \ufffd \ud842 \u302e ≠".split(" ")
    + "\u3000| |\n|\u00a0|\u2028|\x0b".split("|")
)
TEXTS = st.lists(SAMPLES | st.text(max_size=3), min_size=1, max_size=12).map("".join).filter(bool)


@settings(deadline=None, max_examples=200)
@given(TEXTS, st.sampled_from(RULES))
def test_every_token_has_its_characters(vocab_file: str, text: str, rules: Any) -> None:
    tokenizer = Tokenizer(vocab_file, *rules)
    passage = CharacterPassage(text, rules[2])
    places = TokenPlaces(tokenizer.vocab, rules)
    ids = tokenizer.encode_words(passage.words)
    assert ids.values.tolist() == tokenizer.encode(text)  # dividing words changes no token
    assert ids.counts().tolist() == [len(places[word]) for word in passage.words]
    for word, tokens in zip(passage.words, map(ids.__getitem__, range(len(passage.words)))):
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in zip(places[word], places[word][1:]))
        for token, (start, end) in zip(tokens.tolist(), places[word]):
            own = "".join(basic_tokens(word[start:end], *rules))
            piece = WORDS[token]
            assert own and (token == tokenizer.unk_id or own in piece or piece.replace("##", "") in own)


class Rows:
    """Features of one passage, with logits that point at an answer."""

    def __init__(self, vocab_file: str, rules: Any = RULES[0], length: int = 40, stride: int = 5) -> None:
        self.tokenizer = Tokenizer(vocab_file, *rules)
        self.sizes = (length, stride, 8)
        self.texts = AnswerText(self.tokenizer.vocab, rules[0], None, *rules[1:])

    def learn(self, examples: Any) -> list[tuple[str, int, int]]:
        """Answer each example with the columns that training on it would mark: text, start, end."""
        features = build_features(examples, self.tokenizer, *self.sizes, training=True)
        start, end = np.full((2, *features.input_ids.shape), -9, np.float32)
        rows = np.arange(len(features))
        start[rows, features.start_positions] = end[rows, features.end_positions] = 9
        start[:, 0] = end[:, 0] = -20
        options = Options(n_best_size=1, max_answer_length=99)
        # Every window that holds the answer has to lead to the same characters.
        features.token_is_max_context[rows, features.start_positions] = 1
        found = rank(examples, features, start, end, self.texts, options)
        return [(one.entries[0].text, *one.entries[0][3:]) for one in found]


@settings(deadline=None, max_examples=200)
@given(TEXTS, st.sampled_from(RULES), st.integers(9, 20), st.integers(1, 9), st.data())
def test_an_answer_comes_back_as_its_characters_widened_to_whole_tokens(
    vocab_file: str, text: str, rules: Any, room: int, stride: int, data: Any
) -> None:
    begin = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(begin + 1, len(text)))
    passage = CharacterPassage(text, rules[2])
    places = TokenPlaces(Tokenizer(vocab_file, *rules).vocab, rules)
    tokens = [(p + a, p + b) for w, p in zip(passage.words, passage.places) for a, b in places[w]]
    held = [(a, b) for a, b in tokens if a < end and b > begin]
    if not held or passage.find(text[begin:end], begin) is None:
        return
    rows = Rows(vocab_file, rules, len(held) + room + 3, stride)  # so that one window holds it
    example = asked("q", "", text, "cjk", rules[2])._replace(
        orig_answer_text=text[begin:end],
        answer_start=begin,
        start_position=passage.word_at(begin),
        end_position=passage.word_at(end - 1),
    )
    (found,) = rows.learn([example])
    first, last = held[0][0], held[-1][1]
    while rows.texts.strips and text[last : last + 1] and unicodedata.category(text[last]) == "Mn":
        last += 1
    assert found == (text[first:last], first, last)


def squad(tmp_path: Path, context: str, *answers: tuple[str, int]) -> str:
    """Write a file of one passage, with a question for each answer, and return its path."""
    qas = [
        {"id": f"q{number}", "question": "the", "answers": [{"text": text, "answer_start": start}]}
        for number, (text, start) in enumerate(answers)
    ]
    document = {"data": [{"title": "t", "paragraphs": [{"context": context, "qas": qas}]}]}
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("context", "answer", "found"),
    [
        ("파리에서 서울까지", "파리", "파리"),  # the particle stays outside
        ("파리에서 서울까지", "파리에서 서울", "파리에서 서울까지"),  # an unknown word is one token
        ("東京タワーは1938年、東京。", "1938", "1938"),
        ("東京タワーは1938年、東京。", "タワー", "タワー"),
        ("「東京\u3000國塔」", "國塔", "國塔"),  # 國 is in no vocabulary here
        ("東\u200b京\n塔", "東\u200b京\n塔", "東\u200b京\n塔"),  # as written
        ("國國國𠮷𠮷國", "𠮷𠮷", "𠮷𠮷"),
        ("葛\U000e0100は東京", "葛", "葛\U000e0100"),
        ("か\u3099京", "か\u3099", "か\u3099"),
        ("กรุงเทพ กรุง", "เทพ", "เทพ"),
        ("👩\u200d🚀東京👍🏽", "東京", "東京"),
        ("\ufeff東京", "東京", "東京"),
        ("３4は12%", "4", "4"),
    ],
)
def test_answers_in_scripts_without_spaces_are_cut_exactly(
    context: str, answer: str, found: str, vocab_file: str, tmp_path: Path
) -> None:
    place = context.index(answer)
    examples = read_squad(squad(tmp_path, context, (answer, place)), True, False, word_split="cjk")
    cased = "\uac00" <= context[0] <= "\ud7a3"  # else Hangul becomes letters, as in google-research/bert
    ((text, start, end),) = Rows(vocab_file, RULES[cased]).learn(examples)
    assert (text, context[start:end]) == (found, found)


def test_of_equal_texts_the_one_at_the_offset_is_marked(vocab_file: str, tmp_path: Path) -> None:
    context = "東京の東京、東京"
    path = squad(tmp_path, context, ("東京", 0), ("東京", 3), ("東京", 6))
    found = Rows(vocab_file).learn(read_squad(path, True, False))
    assert [start for _, start, _ in found] == [0, 3, 6]


@pytest.mark.parametrize(
    ("text", "start", "found"),
    [
        ("東京の塔", 2, (2, 6)),
        ("東京 の塔", 2, None),
        ("京都 東", 7, (7, 12)),  # the answer's white space was tidied
        ("東京", 3, (2, 4)),  # nearly there
        ("東京", 9, None),
        ("東京", -1, None),
        (" ", 0, None),
        ("塔", 99, None),
    ],
)
def test_answers_at_and_near_their_offset(text: str, start: int, found: Any) -> None:
    assert CharacterPassage("大 東京の塔、京都\n 東").find(text, start) == found


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("The Great Wall (長城) of China (中国) is long.", "google"),
        ("長城は中国の遺跡である。", "cjk"),
        ("파리는 프랑스의 수도이다.", "cjk"),
        ("กรุงเทพมหานคร is a city", "cjk"),
        ("Zürich – Genève, Αθήνα, Москва, القاهرة", "google"),
        ("", "google"),
    ],
)
def test_the_rule_is_chosen_by_the_share_of_characters(text: str, split: str) -> None:
    for document in (
        {"data": [{"paragraphs": [{"context": text, "qas": []}]}]},
        [{"context": text}],
        {"data": [{"context": text}], "version": 1},
    ):
        choice = choose(document)
        assert choice.split == split and (choice.share >= SHARE) == (split == "cjk")
        assert str(choice).startswith(f"word_split {split}: ")
    assert choose(None) == choose([[3, {"data": None}]]) == ("google", 0.0)


def test_a_file_that_is_divided_says_so_and_others_stay_silent(tmp_path: Path) -> None:
    found = read_squad(squad(tmp_path, "東京の塔", ("塔", 3)), True, False)
    assert "word_split cjk: 100.0 % of the characters" in found.notes[0]
    assert found[0].word_places == [0, 1, 2, 3]
    found = read_squad(squad(tmp_path, "a tower", ("tower", 2)), True, False)
    assert not found.notes and found[0].word_places is None
