"""Read a WordPiece vocabulary: vocab.txt, or the one inside a tokenizer.json. Stdlib only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Mapping

from bert import files

NAMES = ("vocab.txt", "tokenizer.json")  # of files, the first that exists in a model's folder counts
REQUIRED = ("[UNK]", "[CLS]", "[SEP]")
_PADDING = "[PAD]"
_SENTENCE_PIECE = "\u2581"  # begins a word in vocabularies of SentencePiece


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model."""

    ids: dict[str, int]  # of a token that stands twice the last one, as in Google's and HF's readers
    size: int  # the ids that the file uses; a blank end of vocab.txt does not count
    notes: tuple[str, ...] = ()

    @property
    def is_cased(self) -> bool:
        """Tell whether it was made from text that was not lower-cased: it has capital letters.

        The words in brackets do not count, and a few symbols do not suffice: it has most of A to Z by
        themselves, or a twentieth of its tokens has a capital letter.
        """
        plain = [token for token in self.ids if not (token.startswith("[") and token.endswith("]"))]
        letters = sum(chr(point) in self.ids for point in range(ord("A"), ord("Z") + 1))
        return letters > 20 or sum(token != token.lower() for token in plain) * 20 > len(plain)

    @property
    def has_letters(self) -> bool:
        """Tell whether any token has a letter that case can change."""
        return any(token != token.upper() for token in self.ids)

    @property
    def text(self) -> str:
        """The content of a vocab.txt; an id without token becomes [unused-ID]."""
        held = {index: token for token, index in self.ids.items()}
        return "".join(held.get(index, f"[unused-{index}]") + "\n" for index in range(self.size))

    @property
    def sha256(self) -> str:
        """Hash the tokens and their order: equal for files that differ in line ends or a blank end."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def read(path: str) -> Vocabulary:
    """Read a vocabulary. ValueError: unreadable, another program's, or without [UNK], [CLS], [SEP]."""
    found = _from_json(files.read_object(path)) if path.endswith(".json") else _lines(files.read_text(path))
    missing = [token for token in REQUIRED if token not in found.ids]
    pieces = sum(token.startswith(_SENTENCE_PIECE) for token in found.ids)
    if pieces * 20 > len(found.ids):
        raise ValueError(f"holds SentencePieces ({_SENTENCE_PIECE}), not WordPieces; give a BERT's vocab.txt")
    if missing:
        raise ValueError(f"{', '.join(missing)} missing; give the model's vocab.txt")
    if _PADDING not in found.ids:
        note = f"{_PADDING} missing; rows are padded with id 0, which no token attends to"
        return Vocabulary(found.ids, found.size, (*found.notes, note))
    return found


def _lines(text: str) -> Vocabulary:
    """Read one token a line; its id is the line's number from 0."""
    if text.lstrip().startswith("{"):
        raise ValueError("JSON, as of RoBERTa or GPT (byte-level BPE); give a BERT's vocab.txt")
    tokens = [line.strip() for line in text.split("\n")]
    while tokens and not tokens[-1]:
        tokens.pop()
    ids = {token: index for index, token in enumerate(tokens)}
    return Vocabulary(ids, len(tokens), _repeated(tokens, ids))


def _repeated(tokens: list[str], ids: Mapping[str, int]) -> tuple[str, ...]:
    """Name tokens that stand on several lines; the last line counts."""
    if len(ids) == len(tokens):
        return ()
    lines: dict[str, list[int]] = {}
    for number, token in enumerate(tokens, 1):
        lines.setdefault(token, []).append(number)
    found = [(token, at) for token, at in lines.items() if token and len(at) > 1]
    shown = [f"{token!r:.40} on lines {', '.join(map(str, at[:3]))}" for token, at in found[:3]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return (f"duplicate tokens, of which the last line counts: {'; '.join(shown)}{more}",) if found else ()


def _from_json(document: Mapping[str, Any]) -> Vocabulary:
    """Read the vocabulary of a tokenizer.json (Hugging Face tokenizers 0.x): model and added tokens."""
    model = document.get("model")
    kind = model.get("type", "WordPiece") if isinstance(model, dict) else "missing"
    if not isinstance(model, dict) or kind != "WordPiece":
        raise ValueError(f"its model is {kind!r:.40}; expected the tokenizer.json of a BERT (WordPiece)")
    ids = model.get("vocab")
    added = document.get("added_tokens") or []
    if not isinstance(ids, dict) or not isinstance(added, list):
        raise ValueError("model.vocab is no object; give the model's vocab.txt")
    ids = dict(ids)
    for entry in added:
        if isinstance(entry, dict):
            ids.setdefault(str(entry.get("content")), entry.get("id"))
    if not all(type(index) is int and 0 <= index < 1 << 24 for index in ids.values()):
        raise ValueError("model.vocab: an id is no whole number; give the model's vocab.txt")
    return Vocabulary(ids, max(ids.values(), default=-1) + 1)
