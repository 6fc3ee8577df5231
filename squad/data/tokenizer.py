"""WordPiece tokens equal to those of google-research/bert, from the Rust library `tokenizers`.

A text is split at plain spaces, and each distinct word is tokenised once: white space always ends a token,
so the tokens of the words are the tokens of the text. The library looks up the WordPieces. Its normaliser is
not used, as it differs from Google's code: it drops private-use and unassigned characters, lower-cases
character by character (no final sigma), starts a CJK block at U+2B920 instead of U+2B820, uses other Unicode
tables than Python's, and is slower here than a few table look-ups on distinct words.
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Dict, Sequence

import numpy as np
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers

from bert import vocabulary
from bert.vocabulary import Vocabulary
from squad.data.ragged import Numbering, Ragged
from squad.errors import DataError

_CHUNK = 1024  # words passed to the library in one string: a call costs as much as several tokens
_PLAIN = re.compile("[a-zA-Z0-9]+|[^a-zA-Z0-9 ]")
# Unless it is told, the library's release for Python 3.7 warns on standard output when a process is started
# later, amid the JSON of `score`. No child here uses it.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
LONGEST = 200  # characters of a word; longer ones are [UNK] (the library's default is 100)
_NOT_IN_ANY_VOCABULARY = "\U0010ffff"
CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class Tokenizer:
    """A tokenizer with a WordPiece vocabulary file. DataError: unreadable, or [UNK], [CLS], [SEP] missing.

    strip_accents and tokenize_chinese_chars have the meaning that transformers' BertTokenizer gives them.
    """

    def __init__(
        self,
        vocab_file: str,
        do_lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ) -> None:
        self.vocab_file = vocab_file
        self.do_lower_case = do_lower_case
        self.rules = (do_lower_case, strip_accents, tokenize_chinese_chars)  # of basic_tokens
        self.vocabulary = read_vocabulary(vocab_file)
        self.vocab = self.vocabulary.ids
        self.unk_id, self.cls_id, self.sep_id = (self.vocab[t] for t in ("[UNK]", "[CLS]", "[SEP]"))
        self._tokens = {index: token for token, index in self.vocab.items()}
        self._continues = np.zeros(max(self.vocab.values()) + 1, bool)
        self._continues[[i for token, i in self.vocab.items() if token.startswith("##")]] = True
        pieces = models.WordPiece(self.vocab, unk_token="[UNK]", max_input_chars_per_word=LONGEST)  # noqa: S106
        self._library = RustTokenizer(pieces)
        self._library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()

    def encode_words(self, words: Sequence[str]) -> Ragged:
        """Tokenise each word: one list of token ids (int32) per word."""
        parts = [basic_tokens(word, *self.rules) for word in words]
        distinct: Numbering[str] = Numbering()
        numbered = distinct.number(parts, list(map(len, parts)))
        return self._look_up(list(distinct)).take(numbered)

    def _look_up(self, parts: Sequence[str]) -> Ragged:
        """Split words without white space or punctuation into WordPieces."""
        texts = [" ".join(parts[i : i + _CHUNK]) for i in range(0, len(parts), _CHUNK)]
        encode = getattr(self._library, "encode_batch_fast", self._library.encode_batch)  # without offsets
        encodings = encode(texts, add_special_tokens=False)
        ids = np.array([i for encoding in encodings for i in encoding.ids], np.int32)
        # A part with a # is nothing but that #, so a piece that begins with ## never begins a part.
        begins = np.flatnonzero(~self._continues[ids])
        return Ragged(ids, np.append(begins, len(ids)))

    def encode(self, text: str) -> list[int]:
        """Tokenise a text into token ids."""
        return [int(token) for token in self.encode_words(text.split(" ")).values]

    def tokenize(self, text: str) -> list[str]:
        """Tokenise a text into tokens."""
        return [self._tokens[i] for i in self.encode(text)]


def read_vocabulary(path: str) -> Vocabulary:
    """Read a vocabulary as bert.vocabulary does. DataError: as its ValueError, with the path."""
    try:
        return vocabulary.read(path)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def load_vocab(path: str) -> dict[str, int]:
    """Read the ids of a vocabulary by token. DataError: as read_vocabulary."""
    return read_vocabulary(path).ids


def basic_tokens(
    text: str,
    do_lower_case: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
) -> list[str]:
    """Split a text into words and punctuation marks, as google-research/bert does before WordPiece.

    strip_accents: None means as do_lower_case.
    """
    if text.isascii() and text.isprintable():  # as most words are
        return _PLAIN.findall(text.lower() if do_lower_case else text)
    tokens: list[str] = []
    strip = do_lower_case if strip_accents is None else strip_accents
    for word in text.translate(_CLEAN if tokenize_chinese_chars else _CLEAN_ALONE).split():
        if do_lower_case:
            word = word.lower()
        if strip:
            word = unicodedata.normalize("NFD", word).translate(_UNACCENTED)
        tokens.extend(word.translate(_PUNCTUATED).split())
    return tokens


class _Clean(Dict[int, str]):
    """The replacement of each character: nothing, a space, a CJK character between spaces, or itself."""

    def __init__(self, spaced: bool) -> None:
        super().__init__()
        self._spaced = spaced  # whether CJK characters get their spaces

    def __missing__(self, point: int) -> str:
        char = chr(point)
        category = unicodedata.category(char)
        if char in "\t\n\r" or category == "Zs":
            value = " "
        elif point in (0, 0xFFFD) or category in ("Cc", "Cf"):
            value = ""
        elif category == "Cs":  # half of a surrogate pair, impossible in Rust's strings and in no vocabulary
            value = _NOT_IN_ANY_VOCABULARY
        else:
            among = self._spaced and any(low <= point <= high for low, high in CJK)
            value = f" {char} " if among else char
        self[point] = value
        return value


class _Unaccented(Dict[int, str]):
    """A table that removes combining accents."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        value = self[point] = "" if unicodedata.category(char) == "Mn" else char
        return value


class _Punctuated(Dict[int, str]):
    """A table that puts punctuation marks between spaces."""

    def __missing__(self, point: int) -> str:
        char = chr(point)
        # In ASCII, all except letters, digits and spaces counts as punctuation: $ + < = > ^ ` | ~ too.
        ascii_mark = 33 <= point <= 126 and not char.isalnum()
        mark = ascii_mark or unicodedata.category(char).startswith("P")
        value = self[point] = f" {char} " if mark else char
        return value


_CLEAN, _CLEAN_ALONE = _Clean(spaced=True), _Clean(spaced=False)
_UNACCENTED, _PUNCTUATED = _Unaccented(), _Punctuated()
