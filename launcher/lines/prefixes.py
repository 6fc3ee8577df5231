"""Prefixes that other programs put before the lines of a rank, a pod or a container.

torchrun `[default0]:`, torch `[rank0]:`, mpirun --tag-output `[1,3]<stdout>:`, srun -l `3: `, kubectl
--prefix `[pod/name/container] `, docker compose `name  | `, Docker's JSON files, CRI, journalctl, Ray, vLLM
`(name pid=1) `, pytest `E   `, npu-launch itself, colours. Forms that ordinary text has too (`3: `, `name: `)
count only where most lines of a file have them.
"""

from __future__ import annotations

import re
from typing import Match, NamedTuple, Pattern, Sequence

from launcher import typed_json
from launcher.errors import ReadError

SAMPLE = 200  # lines from which the prefixes of a file are learned
_MOST = 6  # prefixes before one line
_RANK_AT = 128  # bytes in which `[Rank 3]` is looked for

_STYLE = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][AB0])")
_ISO = rb"(?:19|20)\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"
_STAMP = re.compile(_ISO + rb" ")  # kubectl and docker logs --timestamps
# By the first byte of the line; the group `rank` is the rank where the form says one.
_KNOWN: dict[bytes, tuple[Pattern[bytes], ...]] = {
    b"[": (
        re.compile(
            rb"\[(?i:(?:local[_ ]|global[_ ])?rank)[-_: #=]{0,3}(?P<rank>\d{1,6})(?:\s*::\s*)?\]:?\s?"
        ),
        re.compile(rb"\[[\w.-]{0,60}?-\d{1,6}:(?P<rank>\d{1,6})\]:"),  # torchrun's template of older releases
        re.compile(rb"\[(?i:default|worker|trainer|process|proc)[-_: #=]{0,3}(?P<rank>\d{1,6})\]:?"),
        re.compile(rb"\[(?!step|epoch|iter)[A-Za-z]\w{0,40}?(?P<rank>\d{1,6})\]:"),
        re.compile(rb"\[[\w.-]{0,120}@\d{1,9},(?P<rank>\d{1,6})\]<std\w{1,6}>: ?"),  # Open MPI 5
        re.compile(
            rb"\[\d{1,9},\s?(?P<rank>\d{1,6})\]<std\w{1,6}>"
            rb":?(?: (?!\w*(?:Error|Exception|Interrupt|Exit|Warning):|E[A-Z0-9]\d{4}:)[\w.-]{1,80}: ?)?"
        ),
        re.compile(rb"\[pod/[^\]\s]{1,300}\] "),
        re.compile(rb"\[gw\d{1,4}\] "),
    ),
    b"(": (
        re.compile(rb"\((?i:rank)[-_ :=]{0,2}(?P<rank>\d{1,6})\):?\s?"),
        re.compile(rb"\([^()]{0,120}?\bpid=\d{1,9}(?:, ip=[\w.:-]{1,60})?\) ?"),
    ),
    b"{": (),
    b"<": (
        re.compile(rb"<\d{1,3}>1 \S{1,64} \S{1,64} \S{1,64} \S{1,64} \S{1,64} (?:-|\[[^\]]{0,200}\]) ?"),
        re.compile(rb"<\d{1,3}>"),
    ),
    b"r": (re.compile(rb"(?i:rank)[-_ #=]{0,2}(?P<rank>\d{1,6})\s?(?:\||:(?!\d)|>)\s?"),),
    b"E": (re.compile(rb"E {3,}"),),
    b"A": (
        re.compile(
            rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})? "
            rb"(?P<who>[\w.-]{1,80} (?:kernel|[\w./@-]{1,80}(?:\[\d{1,9}\])?)): "
        ),
    ),
}
_KNOWN[b"R"] = _KNOWN[b"r"]
for _byte in b"JFMSOND":
    _KNOWN[bytes((_byte,))] = _KNOWN[b"A"]
_OWN = (re.compile(rb"\d\d:\d\d:\d\d\.\d{3} +(?:(?P<rank>\d{1,6})|\[[\d,-]{1,200}\])\| "),)  # npu-launch's
_STAMPED = (
    re.compile(_ISO + rb" std(?:out|err) [FP] "),
    re.compile(_ISO + rb" (?P<who>[\w.-]{1,80} [\w./@-]{1,80}\[\d{1,9}\]): "),
    _STAMP,
)
_RANK = re.compile(rb"[\[(](?:local[_ ]|global[_ ])?rank[-_: #=]{0,3}(\d{1,6})[\])]", re.IGNORECASE)
_LISTED = re.compile(rb"\s+rank\s+: \d")  # a row of torchelastic's report on all ranks
_NUMBERED = re.compile(rb"\[(?:pod/|[^\]]{0,400}?\d)")  # what all forms that begin with [ have in common
_CLOCK = re.compile(rb"\d[\d.,]*(?:[/:T-]\d[\d.,]*){2,}Z?")

# Forms that are prefixes only where most lines have them; of names the same ones must come again.
_LEARNED = (
    re.compile(rb"\s{0,6}(?P<rank>\d{1,6}):(?: |$)"),
    re.compile(rb"\[(?P<rank>\d{1,6})\]:? ?"),
    re.compile(rb"(?P<rank>\d{1,6})[|>] ?"),
    re.compile(rb"<(?P<rank>\d{1,6})>:? ?"),
    re.compile(rb"(?P<name>[A-Za-z0-9][\w.@/-]{0,80}) *\| ?"),
    re.compile(rb"(?P<name>[A-Za-z0-9][\w.@/-]{0,80}):(?: |$)"),
    re.compile(rb"(?P<name>[A-Za-z0-9][\w.@/-]{0,80})> ?"),
    re.compile(rb"\[(?P<name>[A-Za-z0-9][\w.@/: -]{0,80})\]:? "),
    re.compile(rb"\((?P<name>[A-Za-z0-9][\w.@/: =,-]{0,80})\):? "),
    re.compile(rb"(?P<name>[A-Za-z0-9][\w.@/-]{0,80})\t"),
)
_NO_NAME = re.compile(
    rb"(?i)(?:.*\.)?\w*(?:error|exception|warning|interrupt|exit)$|debug|info|event|warn|critical|fatal|trace|"
    rb"note|hint|step|epoch|loss|iter\w*|[\d.:-]+$|E[A-Z0-9]\d{4}$"
)
_LEVELS = re.compile(rb"[ \t\[(|:<-]*(?:DEBUG|INFO|EVENT|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b")
_DIGITS = re.compile(rb"\d+")


class Prefixed(NamedTuple):
    """A line taken apart: what tells the streams of a file apart (b"": none), the rank it says, the text."""

    key: bytes
    rank: int | None
    text: bytes


class PrefixReader:
    """The prefixes of one file's lines. `learn` looks for those that only repetition gives away."""

    def __init__(self) -> None:
        self._form: Pattern[bytes] | None = None
        self._names: frozenset[bytes] = frozenset()
        self._tight: set[Pattern[bytes]] = set()  # forms that no blank stands behind

    def learn(self, lines: Sequence[bytes]) -> None:
        """Find a form that most of the first lines have."""
        texts = [found.text for found in map(self.split, lines[:SAMPLE]) if found.text.strip()]
        for form in _LEARNED if len(texts) > 1 else ():
            matches = list(filter(None, map(form.match, texts)))
            heads = [match.group() for match in matches]
            if len(matches) * 5 < len(texts) * 4 or len(set(heads)) * 4 > len(heads) * 3:
                continue
            if "name" not in form.groupindex:
                self._form = form
                return
            names = {_shape(match.group("name")) for match in matches if heads.count(match.group()) > 1}
            names = {name for name in names if not _NO_NAME.match(name)}
            if names:
                self._form, self._names = form, frozenset(names)
                return

    def split(self, line: bytes) -> Prefixed:
        """Take a line apart."""
        plain = self._form is None and line[:1] != b"{" and not _forms(line) and b"\x1b" not in line
        if plain and not _may_tag_rank(line):
            return Prefixed(b"", None, line)  # most lines
        key, rank, text = b"", None, _STYLE.sub(b"", line) if b"\x1b" in line else line
        for _ in range(_MOST):
            match = self._match(text)
            if match is None:
                inner = _docker(text) if text.startswith(b'{"log":') else None
                if inner is None:
                    break
                text = _STYLE.sub(b"", inner)
                continue
            named = match.groupdict()
            head = named.get("who") or match.group().rstrip()  # a blank behind it may be indentation
            found = named.get("rank")
            rank = int(found) if found else rank
            if match.re is not _STAMP:
                key += _CLOCK.sub(b"", head) if b":" in head else head
            text = self._unblanked(match.re, text[match.end() :])
        if rank is None and _may_tag_rank(text) and not _LISTED.match(text):
            tagged = _RANK.search(text, 0, _RANK_AT)
            if tagged:
                rank, key = int(tagged.group(1)), key + tagged.group()
        return Prefixed(key, rank, text)

    def _unblanked(self, form: Pattern[bytes], text: bytes) -> bytes:
        """Take off the blank behind a prefix, where this file's lines have one that is no indentation."""
        if text[:1] == b" ":
            return text if form in self._tight else text[1:]
        if text and text[:1] != b"[":
            self._tight.add(form)
        return text

    def _match(self, text: bytes) -> Match[bytes] | None:
        for form in _forms(text):
            match = form.match(text)
            if match:
                return match
        match = self._form.match(text) if self._form else None
        if match is None or not self._names:
            return match
        return match if _shape(match.group("name")) in self._names else None


def _may_tag_rank(text: bytes) -> bool:
    """Tell whether a search for _RANK is worth its time."""
    return (b"[" in text or b"(" in text) and b"rank" in text[:_RANK_AT].lower()


def _forms(text: bytes) -> tuple[Pattern[bytes], ...]:
    first = text[:1]
    if first == b"[" and not _NUMBERED.match(text):
        return ()  # as [INFO]
    if first.isdigit():
        return _STAMPED if text[10:11] == b"T" else _OWN if text[2:3] == b":" else ()
    return _KNOWN.get(first, ())


def _shape(name: bytes) -> bytes:
    return _DIGITS.sub(b"0", name)


def _docker(line: bytes) -> bytes | None:
    """Return what a line of Docker's json-file driver holds."""
    try:
        text = typed_json.parse(line.decode("utf-8", "surrogateescape"), "").get("log").text()
    except ReadError:
        return None
    return text.rstrip("\r\n").encode("utf-8", "surrogatepass")


def same_head(head: bytes) -> Pattern[bytes] | None:
    """Return a pattern for the head of a logger's line, whatever its time; None where it is blank."""
    if not head.strip():
        return None
    parts, place = [], 0
    for match in _CLOCK.finditer(head):
        parts += [re.escape(head[place : match.start()]), rb"\d[\d/.,:TZ-]*"]
        place = match.end()
    return re.compile(b"".join([*parts, re.escape(head[place:].rstrip(b" "))]) + rb" ?")


def headed(text: bytes) -> bool:
    """Tell whether a text begins with a time or a level, as a logger's line does."""
    return bool(_CLOCK.match(text.lstrip(b"[ "), 0, 40) or _LEVELS.match(text))
