"""Parse the text of a table: faults are reported with line and column, and the rest is still read."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import Counter
from typing import Any, Match, NamedTuple

from rank_table.errors import RankTableError
from rank_table.rules.finding import Report
from rank_table.table import LONGEST, _no_constant, short_integer

NOTHING = object()
MOST_SCANNED = 4 << 20  # characters; in a longer text only the first fault is reported
MOST_PROBLEMS = 20000  # with more, this is not a table with comments
# Linear on any input: no alternative can match the same text in two ways.
_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\\n]|\\[^\n])*")|(?P<comment>//[^\n]*|#[^\n]*|/\*)|(?P<punct>[{}\[\]:,])'
    r"|(?P<space>\s+)|(?P<word>(?:(?!//|/\*)[^\s\"{}\[\]:,#])+)|(?P<other>.)",
    re.DOTALL,
)
_LITERAL = re.compile(r"(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\Z")
_KUBECTL = re.compile(r"\A\s*(?:Name:|Data\n|apiVersion:|[\w.-]+\.json:[^\n]*\n-{2,})")
_UNRENDERED = re.compile(r"\{{0,2}\s{0,9}[A-Za-z_][\w.]{0,99}\s{0,9}\}{1,3}")
_CLOSES = {"}": "{", "]": "["}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def parse(source: str | bytes, report: Report) -> Any:
    """Parse a text; NOTHING when the rest of it cannot be read.

    Comments, trailing and missing commas, kubectl's lines and elisions are errors, but are skipped, so that
    the rules can be checked on the rest. Time is linear in the length of the text.
    """
    text = _decoded(source, report)
    if text is None:
        return NOTHING
    try:
        return _loads(text, report)
    except json.JSONDecodeError as error:
        return _mended(text, error, report)
    except RecursionError:
        report.error("json.depth", "", None, "nested too deeply", "give a rank table")
    except (RankTableError, ValueError) as error:
        report.error("json.syntax", "", None, str(error)[:200], "write standard JSON")
    return NOTHING


def _decoded(source: str | bytes, report: Report) -> str | None:
    if len(source) > LONGEST:
        report.error("json.size", "", None, f"{len(source) >> 20} MiB long", "give a table below 40 MiB")
        return None
    if isinstance(source, bytes):
        try:
            source = source.decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"byte {error.start} is not UTF-8"
            report.error("json.encoding", "", None, message, "save the file as UTF-8")
            return None
    text = source[1:] if source.startswith("\ufeff") else source
    if not text.strip():
        report.error("json.empty", "", None, "the file is empty", "make a table: npu-launch rank-table make")
        return None
    return text


def _loads(text: str, report: Report) -> Any:
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            counts = Counter(key for key, _ in items)
            repeated.extend([key for key, count in counts.items() if count > 1][:3])
        return found

    document = json.loads(text, object_pairs_hook=pairs, parse_constant=_no_constant, parse_int=short_integer)
    for key in repeated:
        message = "duplicate in one object"
        report.warning("json.duplicate-key", "", key, message, "keep one: HCCL uses the last")
    return document


def _mended(text: str, error: json.JSONDecodeError, report: Report) -> Any:
    if len(text) > MOST_SCANNED:
        report.error(
            "json.syntax", "", None, _not_json(error), "fix it there", line=error.lineno, column=error.colno
        )
        return NOTHING
    scan = _Scan(text, report)
    scan.run()
    if scan.lost or not scan.problems:
        if not scan.problems or not report.failed:
            report.error(
                "json.syntax",
                "",
                None,
                _not_json(error),
                "fix it there",
                line=error.lineno,
                column=error.colno,
            )
        return NOTHING
    try:
        return _loads("".join(scan.mended), report)
    except json.JSONDecodeError as again:
        report.error(
            "json.syntax", "", None, _not_json(again), "fix it there", line=again.lineno, column=again.colno
        )
    except RecursionError:
        report.error("json.depth", "", None, "nested too deeply", "give a rank table")
    except (RankTableError, ValueError) as again_error:
        report.error("json.syntax", "", None, str(again_error)[:200], "write standard JSON")
    return NOTHING


def _not_json(error: json.JSONDecodeError) -> str:
    return f"not JSON: {error.msg}"


class _Scan:
    """A scan of a text that is not JSON: it reports why, and blanks out what can be skipped."""

    def __init__(self, text: str, report: Report) -> None:
        self.text, self.report = text, report
        self.mended = [text]
        self.problems = 0
        self.lost = False  # the rest cannot be read
        self._blanks: list[tuple[int, int, str]] = []
        self._stack: list[_Token] = []
        self._before: _Token | None = None
        self._lines: list[int] = [0] + [match.end() for match in re.finditer("\n", text)]

    def run(self) -> None:
        """Find every problem, up to the first after which the rest cannot be read."""
        start = self._kubectl()
        while start < len(self.text) and not self.lost and self.problems < MOST_PROBLEMS:
            match = _TOKEN.match(self.text, start)
            if match is None:  # impossible: the last alternative matches any character
                break
            start = self._token(match)
        self.lost = self.lost or self.problems >= MOST_PROBLEMS
        if self._stack and not self.lost:
            opened = self._stack[-1]
            self._lose("json.bracket", opened, f"{opened.text} is never closed", "close it")
        self._apply()

    def _kubectl(self) -> int:
        """Skip what kubectl describe prints before the document."""
        head = _KUBECTL.match(self.text)
        brace = self.text.find("{")
        if head is None or brace < 0:
            return 0
        token = _Token("head", "", len(head.group()) - len(head.group().lstrip()), brace)
        message = "output of kubectl describe instead of the file that it shows"
        todo = "extract the file: kubectl get configmap NAME -o jsonpath='{.data.hccl\\.json}'"
        self._note("json.kubectl", token, message, todo)
        self._blank(0, brace)
        return brace

    def _token(self, match: Match[str]) -> int:
        kind = str(match.lastgroup)
        token = _Token(kind, match.group(), match.start(), match.end())
        if kind == "comment":
            return self._comment(token)
        if kind == "punct":
            return self._punct(token)
        if kind == "string":
            self._value(token)
        elif kind == "word":
            self._word(token)
        elif kind == "other":
            self._lose("json.syntax", token, "a text that is not closed on its line", 'close it with "')
        return token.end

    def _comment(self, token: _Token) -> int:
        end = token.end
        if token.text == "/*":
            found = self.text.find("*/", token.end)
            end = found + 2 if found >= 0 else len(self.text)
        self._note("json.comment", token, "a comment", "delete it: JSON has none, and HCCL refuses the file")
        self._blank(token.start, end)
        return end

    def _punct(self, token: _Token) -> int:
        before = self._before
        if token.text in "{[":
            inner = _UNRENDERED.match(self.text, token.end)
            if token.text == "{" and inner:
                whole = self.text[token.start : inner.end()]
                self._lose(
                    "json.placeholder", token, f"{whole[:60]} was not filled in", "render the template"
                )
                return token.end
            self._value(token)
            self._stack.append(token)
        elif token.text in "}]":
            self._close(token, before)
        elif token.text == ":" and self._stack and self._stack[-1].text == "[":
            self._lose(
                "json.bracket",
                before or token,
                "a key inside a list: a ] is missing before it",
                "close the list",
            )
        self._before = token
        return token.end

    def _close(self, token: _Token, before: _Token | None) -> None:
        if before is not None and before.text == "," and before.kind == "punct":
            self._note("json.trailing-comma", before, f"a comma before {token.text}", "delete the comma")
            self._blank(before.start, before.end)
        if not self._stack or self._stack[-1].text != _CLOSES[token.text]:
            opened = self._stack[-1] if self._stack else None
            where = f"{opened.text} of line {self._place(opened.start)[0]}" if opened else "nothing"
            self._lose(
                "json.bracket",
                token,
                f"{token.text} closes {where}",
                "close every bracket by its counterpart",
            )
            return
        self._stack.pop()

    def _word(self, token: _Token) -> None:
        if set(token.text) <= {".", "\u2026"}:
            self._note("json.elision", token, "entries were left out here", "write them out")
            self._blank(token.start, token.end)
            return
        if re.match(r"\$\w*\Z|<.*>?\Z|%\w+\Z|\$\(?\w+\)?\Z", token.text):
            self._lose(
                "json.placeholder", token, f"{token.text[:60]} was not filled in", "render the template"
            )
            return
        if not _LITERAL.match(token.text):
            message = f"{ascii(token.text)[:60]} is not a JSON value"
            self._lose("json.syntax", token, message, 'write texts in "double quotes"')
            return
        self._value(token)

    def _value(self, token: _Token) -> None:
        """Report a missing comma: a value directly after a value."""
        before = self._before
        follows = before is not None and (before.kind != "punct" or before.text in "}]")
        if follows and before is not None:
            self._note("json.missing-comma", before, "no comma between this and what follows", "write one")
            if token.start > before.end:
                self._blanks.append((before.end, before.end + 1, ","))
        self._before = token

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def _note(self, rule: str, token: _Token, message: str, todo: str) -> None:
        line, column = self._place(token.start)
        self.problems += 1
        self.report.error(rule, "", None, message, todo, line=line, column=column)

    def _lose(self, rule: str, token: _Token, message: str, todo: str) -> None:
        self.lost = True
        self._note(rule, token, message, todo)

    def _blank(self, start: int, end: int) -> None:
        self._blanks.append((start, end, ""))

    def _apply(self) -> None:
        """Replace what is skipped by as many blanks, so that lines and columns after it stay right."""
        parts: list[str] = []
        last = 0
        for start, end, put in sorted(self._blanks):
            if start < last:
                continue
            gone = re.sub(r"[^\n]", " ", self.text[start:end])
            parts += [self.text[last:start], put + gone[len(put) :]]
            last = end
        self.mended = [*parts, self.text[last:]]
