"""Tell how serious a line is, by the formats of loggers and of what prints without a level.

Formats: Python's logging, absl and glog, TensorFlow, torch (c10), CANN, MindSpore, Paddle, loguru, nginx,
JSON lines (pino, bunyan, zap, structlog, syslog's numbers), logfmt; the words of glibc, the loader, shells,
the kernel, Slurm, MPI, Go, Rust and Fortran; CANN's bare reports (EE9999: ...).
"""

from __future__ import annotations

import re

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
NAMES: dict[str, int] = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}

_WORDS: dict[bytes, int] = {
    b"TRACE": DEBUG, b"DEBUG": DEBUG,
    b"INFO": INFO, b"EVENT": INFO, b"NOTICE": INFO, b"SUCCESS": INFO,
    b"WARN": WARNING, b"WARNING": WARNING,
    b"ERR": ERROR, b"ERROR": ERROR, b"CRITICAL": ERROR, b"CRIT": ERROR, b"FATAL": ERROR, b"SEVERE": ERROR,
    b"PANIC": ERROR, b"DPANIC": ERROR, b"ALERT": ERROR, b"EMERG": ERROR, b"EMERGENCY": ERROR,
}  # fmt: skip
_NAMED = frozenset(word.lower() for word in _WORDS) | {b"level", b"lvl", b"severity", b"loglevel"}
_FIRST = frozenset(bytes((byte,)) for byte in b"[IWEFD0123456789")  # of _LETTER and _REPORT
_LETTERS: dict[bytes, int] = {b"D": DEBUG, b"I": INFO, b"V": DEBUG, b"W": WARNING, b"E": ERROR, b"F": ERROR}
_HEAD = 96  # bytes in which a level is looked for; a word further on is part of the message
_FAR = 400  # bytes in which the words of programs without levels are looked for
_RECORD = 4096  # bytes of a JSON line in which its level is looked for

_WORD = re.compile(
    rb"(?<![A-Za-z_.=-])(TRACE|DEBUG|INFO|EVENT|WARN(?:ING)?|ERROR|CRITICAL|FATAL)(?![A-Za-z_=])"
    rb"(?!(?: +|-)(?:rates?|counts?|codes?)\b)"
)
# Words before ERROR that make it part of a sentence.
_SENTENCE = re.compile(
    rb"(?i)(?:(?:^|\s)(?:no|0|without|any|an|the|this|of|if|on|for|as|with)|[a-z]{2,} [a-z]{2,} [a-z]{2,}) +$"
)
_LETTER = re.compile(
    rb"\[?([IWEF])\d{3,8} \d\d:\d\d:\d|\[([IWEF]) [\w./+-]{1,80}:\d{1,6}\]|[\d:. ,/TZ-]{12,32}: ([IWEF]) "
    rb"|\[(V)\d{1,6}\] (?:[A-Z_]{2,16}\(\d|\d{4}-)"  # MindSpore's VLOG
)
_JSON = re.compile(
    rb'(?<!\\)"(level|levelname|levelno|level_name|log\.level|loglevel|log_level|lvl|severity|PRIORITY)"'
    rb'\s{0,4}:\s{0,4}(?:"([A-Za-z]{1,10})"|"?(\d{1,3})\b)',
    re.IGNORECASE,
)
_LOGFMT = re.compile(rb'(?:^|[\s|])(?:level|lvl|severity|loglevel)=\[?"?([A-Za-z]{1,10})\b')
_BRACKET = re.compile(
    rb"\[(debug|info|notice|warn|warning|error|crit|critical|alert|emerg|fatal)\]|\[(Error)\]:?",
    re.IGNORECASE,
)
# CANN: EE9999: text; EI0006[PID: 7] ...; [PID: 7] 2026-03-01-10:21:35.118.204 Name(EI0006): text
_REPORT = re.compile(
    rb"E[A-Z0-9]\d{4}(?=:|\s?\[|\s*$)|\[PID: ?\d{1,9}\] (?:[\d:.-]{10,40} )?[\w ]{0,80}\(?E[A-Z0-9]\d{4}\)?:?"
)
_NUMBER = rb"(?!\s*[-+]?[\d.]+(?:e[-+]?\d+)?%?\s*(?:$|[,;|]))"  # a metric, no message
_EXCEPTION = re.compile(
    rb"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|ExceptionGroup)(?:\s*$|:" + _NUMBER + rb")"
)
# A line without one of these words is not searched for the sentences below.
_TRIGGERS = frozenset(
    b"free malloc realloc calloc malloc_consolidate munmap_chunk mremap_chunk corruption corrupted "
    b"smashing overflow glibc assertion lookup loading shared undefined version inconsistency tls "
    b"terminate terminating virtual panic panicked fortran forrtl segmentation sigsegv sigbus sigabrt "
    b"illegal floating breakpoint bus killed aborted oom oom_kill segfault protection xid command error "
    b"fatal exception uncaught unhandled failed stop mpi_abort termination signal cancelled "
    b"addresssanitizer threadsanitizer leaksanitizer fault file line".split()
)
_LOWER = (
    bytes(byte if chr(byte).isalnum() or byte == 95 else 32 for byte in bytes(range(128)).lower())
    + b" " * 128
)
_SAID = re.compile(
    rb"^(?:free|realloc|calloc|malloc(?:_consolidate)?|munmap_chunk|mremap_chunk|_int_(?:free|malloc))\(\): "
    rb"|double free or corruption|corrupted (?:size vs|double-linked)|invalid fastbin"
    rb"|\*\*\* (?:stack smashing|buffer overflow|Error in|glibc detected|longjmp|%n in|error for object)"
    rb"|: Assertion [`'\"]|^Assertion .{1,200}failed|sysmalloc|\bCheck failed: "
    rb"|symbol lookup error:|error while loading shared libraries:|cannot open shared object file"
    rb"|version [`'\"]\S{1,80}['\"] not found|undefined symbol: |detected by ld\.so|in static TLS block"
    rb"|terminate called (?:after|without|recursively)|libc\+\+abi: terminating|pure virtual method called"
    rb"|^panic: |^fatal error: |^\[signal SIG|^thread .{1,80} panicked at|panicked at "
    rb"|^forrtl: (?:severe|error)|^Fortran runtime error|^At line \d+ of file|^ERROR STOP"
    rb"|received signal SIG(?!TERM|INT)|: command not found\s*$|command not found: "
    rb"|: line \d+: .{1,200}: (?:No such file|Permission denied|cannot )"
    rb"|(?:^|: \s*(?:\d+ )?)(?:Segmentation fault|Illegal instruction|Floating point exception|Bus error"
    rb"|Trace/breakpoint trap)\b|(?:^|: \s*(?:\d+ )?)(?:Aborted|Killed)(?: ?\(|\s{2,}|[:.!]?\s*$)"
    rb"|^zsh: (?:segmentation fault|illegal hardware|bus error|abort|killed|floating point)"
    rb"|[Oo]ut of memory: Kill(?:ed)? process|oom-kill:|invoked oom-killer|oom[-_]kill event"
    rb"|oom_reaper: reaped|\bsegfault at |general protection fault|Kernel panic|NVRM: Xid"
    rb"|CANCELLED AT |MPI_ABORT was invoked|\*\*\* An error occurred in|noticed that process rank"
    rb"|exited on signal|BAD TERMINATION|(?:Address|Thread|Leak)Sanitizer: |^Fatal (?:Python )?error\b"
    rb"|^fatal: |^(?:Uncaught|Unhandled) |^(?:\w{1,20} )?[Ee]rror: *(?=\S)" + _NUMBER +
    rb"|^[\w./+-]{1,120}: (?:fatal )?error:" + _NUMBER +
    rb"|^\S{1,120}:\d+: (?:\d+: )?(?:fatal )?error: |^Error in |^Exception in |^FAILED \S+::"
    rb"|^\S+\.py:\d+: \w+(?:Error|Exception)$"
)  # fmt: skip


def words_of(line: bytes) -> list[bytes]:
    """Return the words of a line's beginning in lower case: most lines are known by them to be no error."""
    return line[:_FAR].translate(_LOWER).split()


def level(line: bytes, words: list[bytes] | None = None) -> int:
    """Return the level that a line (without prefixes) names or its words mean; INFO where it names none.

    `words`: those of words_of, where the caller has them.
    """
    words = words_of(line) if words is None else words
    first = line[:1]
    if first == b"{":
        found = _json_level(line)
        if found:
            return found
    letter = _LETTER.match(line) if first in _FIRST else None
    if letter:  # it stands first: an [Error] behind it belongs to the message
        return _LETTERS[letter.group(letter.lastindex or 0)]
    if not _NAMED.isdisjoint(words):
        found = _named_level(line)
        if found:
            return found
    if first in _FIRST and _REPORT.match(line):
        return ERROR
    return ERROR if is_exception(line) or is_said(line, words) else INFO


def _named_level(line: bytes) -> int:
    """Return the level that a word names; 0 where none does."""
    for match in _WORD.finditer(line, 0, _HEAD):
        found = _WORDS[match.group(1)]
        if found < ERROR or not _SENTENCE.search(line[: match.start()]):
            return found
    named = _LOGFMT.search(line, 0, _FAR)
    if named:
        return _WORDS.get(named.group(1).upper(), INFO)
    named = _BRACKET.search(line, 0, _HEAD)
    return _WORDS[(named.group(1) or named.group(2)).upper()] if named else 0


def is_exception(line: bytes) -> bool:
    """Tell whether a line is what Python prints last of a traceback, by the name of its class."""
    return bool(_EXCEPTION.match(line))


def is_report(line: bytes) -> bool:
    """Tell whether a line begins a report of CANN, such as `EE9999: Inner Error!`."""
    return bool(_REPORT.match(line))


def is_said(line: bytes, words: list[bytes] | None = None) -> bool:
    """Tell whether a line is an error in the words of a program that prints no levels."""
    if _TRIGGERS.isdisjoint(words_of(line) if words is None else words):
        return False
    return bool(_SAID.search(line, 0, _FAR))


def _json_level(line: bytes) -> int:
    match = _JSON.search(line, 0, _RECORD)
    if match is None:
        return 0
    key, word, digits = match.groups()
    if word:
        return _WORDS.get(word.upper(), INFO)
    return _numbered(key.lower(), int(digits))


def _numbered(key: bytes, number: int) -> int:
    """Read a level's number: syslog's 0 to 7, Python's levelno, or that of pino and bunyan."""
    if number < 8:
        return ERROR if number <= 3 else WARNING if number == 4 else INFO
    steps = (40, 30) if key == b"levelno" else (50, 40)
    return ERROR if number >= steps[0] else WARNING if number >= steps[1] else INFO
