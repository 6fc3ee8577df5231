"""Which characters of a word each of its tokens stands for."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

from squad.data.tokenizer import LONGEST, basic_tokens

Rules = Tuple[bool, Optional[bool], bool]  # do_lower_case, strip_accents, tokenize_chinese_chars
Place = Tuple[int, int]  # first character, and the one behind the last


class TokenPlaces(Dict[str, List[Place]]):
    """The places of each word's tokens, found once; equal in number to Tokenizer's tokens of the word."""

    def __init__(self, vocab: Mapping[str, int], rules: Rules) -> None:
        super().__init__()
        self._vocab = vocab
        self._rules = rules  # of basic_tokens
        self._letters: dict[str, int] = {}
        self._longest = max(map(len, vocab), default=1)

    def __missing__(self, word: str) -> list[Place]:
        parts = basic_tokens(word, *self._rules)
        # Normalising makes none, one or several characters of each; accents are reordered, not counted anew.
        sources = [place for place, char in enumerate(word) for _ in range(self._becomes(char))]
        value = self[word] = []
        begin = 0
        for part in parts:
            for size in self._pieces(part):
                value.append((sources[begin], sources[begin + size - 1] + 1))
                begin += size
        return value

    def _becomes(self, char: str) -> int:
        if char not in self._letters:
            self._letters[char] = sum(map(len, basic_tokens(char, *self._rules)))
        return self._letters[char]

    def _pieces(self, part: str) -> list[int]:
        """Return the lengths of a part's WordPieces, longest match first; all of it if it is [UNK]."""
        if part in self._vocab or len(part) > LONGEST:
            return [len(part)]
        ends = [0]
        while ends[-1] < len(part):
            begin, end = ends[-1], min(len(part), ends[-1] + self._longest)
            while end > begin and ("##" if begin else "") + part[begin:end] not in self._vocab:
                end -= 1
            if end == begin:
                return [len(part)]
            ends.append(end)
        return [end - begin for begin, end in zip(ends, ends[1:])]
