"""How a model's texts are prepared before WordPiece, as the model's own files say it. Stdlib only.

Sources: tokenizer_config.json of transformers (the arguments of BertTokenizer), and the normalizer of
tokenizer.json (Hugging Face tokenizers 0.x). Of two files that differ transformers obeys the first.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from bert import files
from bert.vocabulary import Vocabulary

NAMES = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
CONFIG, TOKENIZER = "tokenizer_config.json", "tokenizer.json"
_TOKENIZERS = ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
_FOLDER = re.compile("(?<![a-z])(un)?cased(?![a-z])")  # of Google's folders: cased_L-12_H-768_A-12


@dataclass(frozen=True)
class TextRules:
    """Case, accents and Chinese characters; None: the files do not say."""

    do_lower_case: bool | None = None
    strip_accents: bool | None = None  # None: as do_lower_case
    tokenize_chinese_chars: bool | None = None  # None: yes
    source: str = ""  # what says do_lower_case, for people
    guessed: bool = False  # no file says it, and `source` is a sentence about the vocabulary or the folder
    notes: tuple[str, ...] = ()

    def values(self) -> dict[str, bool | None]:
        """Return the rules by name."""
        return {name: getattr(self, name) for name in NAMES}


def read(folder: str) -> TextRules:
    """Read what the files of a folder say. ValueError: one of them is damaged; the message has its path."""
    given, tokenizer = _object(folder, CONFIG), {}
    if given.get("do_lower_case") is None:
        tokenizer = _object(folder, TOKENIZER)
    notes = []
    kind = given.get("tokenizer_class")
    if kind is not None and kind not in _TOKENIZERS:
        notes.append(f"{CONFIG} says tokenizer_class {kind!r:.60}; texts are cut as BertTokenizer does")
    if given.get("do_basic_tokenize") is False:
        notes.append(f"{CONFIG} says do_basic_tokenize false; punctuation is split all the same")
    inner = _normalizer(tokenizer)
    values: dict[str, Any] = {name: _flag(folder, given, name, inner) for name in NAMES}
    source = CONFIG if given.get("do_lower_case") is not None else TOKENIZER
    return TextRules(**values, source=os.path.join(folder, source), notes=tuple(notes))


def _object(folder: str, name: str) -> dict[str, Any]:
    path = os.path.join(folder, name)
    if not os.path.lexists(path):
        return {}
    try:
        return files.read_object(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _flag(folder: str, given: Mapping[str, Any], name: str, inner: Mapping[str, Any]) -> bool | None:
    value, source = given.get(name), CONFIG
    if value is None:
        value, source = inner.get(name), TOKENIZER
    if value is not None and not isinstance(value, bool):
        path = os.path.join(folder, source)
        raise ValueError(f"{path}: {name} is {value!r:.40} (expected true or false)")
    return value


def _normalizer(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """Read a tokenizer.json's normalizer; {} if there is none that says something about case."""
    if "normalizer" not in tokenizer:
        return {}
    found = tokenizer["normalizer"]
    if isinstance(found, dict) and found.get("type") == "BertNormalizer":
        names = ("lowercase", "strip_accents", "handle_chinese_chars")
        return {name: found.get(theirs) for name, theirs in zip(NAMES, names)}
    steps = found.get("normalizers", [found]) if isinstance(found, dict) else []
    steps = steps if isinstance(steps, list) else []
    kinds = {str(step.get("type")) for step in steps if isinstance(step, dict)}
    return {"do_lower_case": "Lowercase" in kinds, "strip_accents": "StripAccents" in kinds or None}


def find(folders: Sequence[str], facts: Mapping[str, Any], vocabulary: Vocabulary) -> TextRules:
    """Find the rules of a model, of which do_lower_case is then known.

    In this order: the JSON of a checkpoint of this program (`facts`), what the files of the first folder that
    has any say, the vocabulary, and the first folder's name.

    Raises:
        ValueError: a file is damaged; the message has its path.
    """
    recorded = _from_record(facts)
    if recorded.do_lower_case is not None:
        return recorded
    said = list(map(read, folders))
    found = next((rules for rules in said if set(rules.values().values()) != {None}), said[0])
    if found.do_lower_case is not None:
        return found
    lower, source = _guess(vocabulary, os.path.basename(os.path.abspath(folders[0])))
    return dataclasses.replace(found, do_lower_case=lower, source=source, guessed=True)


def _from_record(facts: Mapping[str, Any]) -> TextRules:
    """Read the rules with which a run of this program made its rows (PREFIX.json)."""
    data = facts.get("data")
    known = data if isinstance(data, dict) else {}
    held = {name: known[name] for name in NAMES if isinstance(known.get(name), bool)}
    return TextRules(**held, source="the checkpoint's JSON") if held else TextRules()


def _guess(vocabulary: Vocabulary, folder: str) -> tuple[bool, str]:
    """Tell whether texts are lower-cased, and what says so, where no file does."""
    named = _FOLDER.search(folder.lower())
    if vocabulary.is_cased:
        return False, "the vocabulary has words with capital letters"
    if named and not named.group(1):
        return False, f"the folder is named {folder}"
    return True, ""


def to_json(rules: TextRules, length: int | None = None) -> str:
    """Format a tokenizer_config.json that transformers' BertTokenizer reads; `length`: tokens in a row."""
    lower, chinese = rules.do_lower_case, rules.tokenize_chinese_chars
    values: dict[str, Any] = {
        "do_lower_case": True if lower is None else lower,
        "strip_accents": rules.strip_accents,
        "tokenize_chinese_chars": True if chinese is None else chinese,
        "tokenizer_class": "BertTokenizer",
    }
    if length is not None:
        values["model_max_length"] = length
    return json.dumps(values, indent=2) + "\n"
