"""Name a file by its first bytes if it is no JSON, so that a message says what is there and what to do.

Signatures: those of each format's own specification (RFC 1952, PKWARE's APPNOTE, Apache Parquet and Arrow,
git-lfs's spec.md and so on).
"""

from __future__ import annotations

import codecs
import re

from bert.files import LFS_START

HEAD = 512  # bytes to give to `name`, of a gzipped file those inside it
GZIP = b"\x1f\x8b"

TABLE, UTF16 = "a table (CSV or TSV)", "UTF-16 text"
COLUMNAR = ("a parquet file", "an Arrow file", "an Arrow stream")
_UNPACK = "unpack it"
_EXPORT = "export it as JSON"
_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive", _UNPACK + ' (or, for a workbook, save it as "CSV UTF-8")'),
    (b"PK\x05\x06", "an empty zip archive", "download it again"),
    (GZIP, "a gzip file inside a gzip file", _UNPACK + " once with gunzip"),
    (b"BZh", "a bzip2 file", _UNPACK + " with bunzip2"),
    (b"\xfd7zXZ\x00", "an xz file", _UNPACK + " with unxz"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK + " with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (b"PAR1", COLUMNAR[0], _EXPORT + ": Dataset.from_parquet(FILE).to_json(...)"),
    (b"ARROW1", COLUMNAR[1], _EXPORT + ": Dataset.from_file(FILE).to_json(...)"),
    (b"\xff\xff\xff\xff", COLUMNAR[2], _EXPORT + ": Dataset.from_file(FILE).to_json(...)"),
    (b"ORC", "an ORC file", _EXPORT),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "give the JSON file"),
    (b"\x93NUMPY", "a numpy array", "give the JSON file"),
    (b"SQLite format 3\x00", "an SQLite database", _EXPORT),
    (b"%PDF-", "a PDF", "give the JSON file"),
    (b"\x80\x02", "a Python pickle", _EXPORT),
    (b"\x80\x03", "a Python pickle", _EXPORT),
    (b"\x80\x04", "a Python pickle", _EXPORT),
    (b"\x80\x05", "a Python pickle", _EXPORT),
    (codecs.BOM_UTF32_LE, "UTF-32 text", "save it as UTF-8"),
    (codecs.BOM_UTF16_LE, UTF16, "save it as UTF-8"),
    (codecs.BOM_UTF16_BE, UTF16, "save it as UTF-8"),
    (LFS_START, "a Git LFS pointer", "run `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer", "run `git annex get`"),
)
_COLUMNS = re.compile(r"^[\w\" ]+([,;\t])[\w\" ]+(\1[\w\" ]*)*\r?\n")


def name(head: bytes) -> tuple[str, str] | None:
    """Name what a file's first bytes show, and what to do; None if it may be JSON."""
    if not head.replace(codecs.BOM_UTF8, b"", 1).strip():
        return "blank" if head else "empty", "download it again or write it again"
    for signature, what, advice in _SIGNATURES:
        if head.startswith(signature):
            return what, advice
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if b"\x00" in head[:4]:
        wide = len(head) > 1 and (head[0] == 0) != (head[1] == 0)
        return (UTF16, "save it as UTF-8") if wide else ("a binary file", "give the JSON file")
    return _text(head)


def _text(head: bytes) -> tuple[str, str] | None:
    """Name texts that are no JSON: pages, tables, messages of a server."""
    text = head.decode("utf-8-sig", "replace").lstrip()
    start = text[:100].lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "a web page", "the download failed or needs a log-in; download it again"
    if start.startswith("<"):
        return "XML or a web page", "give the JSON file"
    if re.match(r"40[34]\b|not found|access denied|entry not found", start):
        return f"a server's message, {text.splitlines()[0][:40]!r}", "the download failed; download it again"
    if _COLUMNS.match(text) and text[0] not in "[{":
        return TABLE, "give the JSON file"
    return None
