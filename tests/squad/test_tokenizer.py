"""Tokens as google-research/bert makes them, whatever the text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squad.answers.answer_text import AnswerText
from squad.data import tokenizer as module
from squad.data.tokenizer import Tokenizer, basic_tokens
from squad.errors import DataError

FUZZ = settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))


@pytest.fixture
def tokenizer(vocabulary: Path) -> Tokenizer:
    return Tokenizer(str(vocabulary))


@pytest.fixture(scope="module")
def bert(minilm: Path) -> Tokenizer:
    return Tokenizer(str(minilm / "vocab.txt"))


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("unaffable unaffs zz", ["un", "##aff", "##able", "un", "##aff", "##s", "[UNK]"]),
        ("Who(a)$b", ["who", "(", "a", ")", "$", "b"]),
        ("[SEP] [MASK]", ["[", "[UNK]", "]", "[", "[UNK]", "]"]),  # text cannot spell a special token
        ("a\x00b\ufffd \x0b c\x1fd", ["[UNK]", "[UNK]"]),  # control characters vanish: ab, cd
        ("a\u00a0b\u3000c\u2028d\u2029a\u202fb", ["a", "b", "c", "d", "a", "b"]),
        ("\u00c4 \u0130 A\u0301", ["a", "i", "a"]),
        ("a北b北", ["a", "北", "b", "北"]),
        ("a\u037eb", ["a", ";", "b"]),  # Greek question mark becomes a semicolon
        ("a\u200db", ["[UNK]"]),
        ("", []),
    ],
)
def test_awkward_text(text: str, tokens: list[str], tokenizer: Tokenizer) -> None:
    assert tokenizer.tokenize(text) == tokens


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("\ue000x", ["\ue000x"]),  # private use: the library drops it
        ("\U0002b820a", ["\U0002b820", "a"]),  # start of a CJK block that the library begins at U+2B920
        ("\u0391\u03a3", ["\u03b1\u03c2"]),  # final sigma: the library lower-cases each letter alone
        ("\u0378", ["\u0378"]),  # unassigned: the library drops it
    ],
)
def test_text_for_which_the_library_differs(text: str, tokens: list[str]) -> None:
    assert basic_tokens(text) == tokens


def test_cased_text_keeps_capitals_and_accents(vocabulary: Path) -> None:
    with vocabulary.open("a", encoding="utf-8") as stream:
        stream.write("\u00c4\nB\n")
    cased = Tokenizer(str(vocabulary), do_lower_case=False)
    assert cased.tokenize("\u00c4 B,a \u00e4") == ["\u00c4", "B", ",", "a", "[UNK]"]


def test_accents_and_chinese_characters_are_treated_as_the_model_says() -> None:
    assert basic_tokens("Élan") == ["elan"]
    assert basic_tokens("Élan", strip_accents=False) == ["élan"]
    assert basic_tokens("Élan", do_lower_case=False, strip_accents=True) == ["Elan"]
    assert basic_tokens("Élan", do_lower_case=False) == ["Élan"]
    assert basic_tokens("a北京") == ["a", "北", "京"]
    assert basic_tokens("a北京", tokenize_chinese_chars=False) == ["a北京"]


def test_an_answers_text_is_found_under_the_same_rules() -> None:
    vocab = {"élan": 0, "##s": 1}
    assert AnswerText(vocab, True, None, False).text([0], ["(Élan)"]) == "Élan"


def test_words_of_up_to_200_characters_are_looked_up(tokenizer: Tokenizer) -> None:
    assert tokenizer.tokenize("un" + "aff" * 66) == ["un"] + ["##aff"] * 66
    assert tokenizer.tokenize("un" + "aff" * 67) == ["[UNK]"]


def test_half_a_surrogate_pair_is_unknown_and_breaks_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.tokenize("a \ud83d b") == ["a", "[UNK]", "b"]


def test_counts_tell_words_apart(tokenizer: Tokenizer) -> None:
    lists = tokenizer.encode_words(["unaffable", "", "\u00c4", "a.b", "\x00", "zz"])
    assert lists.counts().tolist() == [3, 0, 1, 3, 0, 1]
    assert lists[2].tolist() == [tokenizer.vocab["a"]] and lists[5].tolist() == [tokenizer.unk_id]


def test_more_words_than_a_call_takes(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["unaffable", "\u00c4", "a.b"] * 7
    whole = tokenizer.encode_words(words)
    monkeypatch.setattr(module, "_CHUNK", 2)
    assert tokenizer.encode_words(words).values.tolist() == whole.values.tolist()
    assert tokenizer.encode_words(words).starts.tolist() == whole.starts.tolist()


ANY_TEXT = st.text(
    st.characters(blacklist_categories=[]) | st.sampled_from("ab .\u00c4\u0130\u03a3\u4e00\x00")
)


@FUZZ
@given(text=ANY_TEXT)
def test_longest_pieces_first_on_any_text(text: str, bert: Tokenizer) -> None:
    assert bert.encode(text) == slow(bert, text)


def slow(tokenizer: Tokenizer, text: str) -> list[int]:
    """Look WordPieces up one by one."""
    ids: list[int] = []
    for word in basic_tokens(text):
        pieces, start = [], 0
        while start < len(word):
            names = (("##" if start else "") + word[start:end] for end in range(len(word), start, -1))
            name = next((name for name in names if name in tokenizer.vocab), "")
            if not name:
                break
            pieces.append(tokenizer.vocab[name])
            start += len(name) - (2 if start else 0)
        ids += pieces if start >= len(word) and len(word) <= 200 else [tokenizer.unk_id]
    return ids


def test_a_vocabulary_without_its_marks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("a\nb\n[SEP]\n")
    with pytest.raises(DataError, match=r"\[UNK\], \[CLS\] missing"):
        Tokenizer(str(path))
    with pytest.raises(DataError, match="No such file"):
        Tokenizer(str(tmp_path / "none"))
    path.write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        Tokenizer(str(path))
