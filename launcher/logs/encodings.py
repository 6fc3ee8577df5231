"""The encoding of a log, which is decided once for a file: UTF-8, else GB18030 (GBK), UTF-16 by its mark."""

from __future__ import annotations

import codecs
import re

_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_PAIRS = re.compile(rb"[\xa1-\xf7][\xa1-\xfe]")  # GB 2312: almost all that is written
_HIGH = re.compile(rb"[\x80-\xff]")
CONTINUED = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that begin no character


def boundary(data: bytes | memoryview, at: int) -> int:
    """Return the place nearest before `at` that is not within a character of UTF-8.

    >>> boundary("a中".encode(), 2)
    1
    """
    if at >= len(data):
        return len(data)
    for back in range(min(4, at + 1)):
        if data[at - back] not in CONTINUED:
            return at - back
    return at  # no UTF-8


def is_gb18030(data: bytes) -> bool:
    """Tell whether bytes are text in GB18030 (GBK) and not in UTF-8; the last character may be cut."""
    if data.isascii() or _decodes(data, "utf-8"):
        return False
    pairs, high = len(_PAIRS.findall(data)), len(_HIGH.findall(data))
    return pairs > 0 and 2 * pairs >= 0.7 * (high - 1) and _decodes(data, "gb18030")


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return False
    return True


class Decoder:
    """The bytes of one file as UTF-8. `encoding`: "" until it is known, which takes a byte beyond ASCII."""

    def __init__(self) -> None:
        self.encoding = ""
        self._begun = False
        self._incremental: codecs.IncrementalDecoder | None = None

    def feed(self, data: bytes, final: bool = False) -> bytes:
        """Take a chunk; return it as UTF-8. What UTF-8 does not allow is left as it is."""
        if not self._begun and data:
            data = self._begin(data)
        if not self.encoding and not data.isascii():
            self._choose("gb18030" if is_gb18030(data) else "utf-8")
        if self._incremental is None:
            return data
        return self._incremental.decode(data, final).encode("utf-8", "surrogatepass")

    def _begin(self, data: bytes) -> bytes:
        self._begun = True
        for mark, encoding in _MARKS.items():
            if data.startswith(mark):
                self._choose(encoding)
                return data[len(mark) :]
        return data[3:] if data.startswith(codecs.BOM_UTF8) else data

    def _choose(self, encoding: str) -> None:
        self.encoding = encoding
        if encoding != "utf-8":
            self._incremental = codecs.getincrementaldecoder(encoding)("backslashreplace")
