"""The signal behind an exit code.

A shell reports 128 + n for a command that signal n killed (POSIX, Shell Command Language, 2.8.2); a Python
program that passes on the return code -n of a subprocess ends with 256 - n. 255 and 254 say nothing: ssh and
many programs end with -1 or -2 for any error.
"""

from __future__ import annotations

import re
import signal

AGAIN = 75  # EX_TEMPFAIL of sysexits.h: a program that has saved, as its time is over
_OF_SHELLS = frozenset(
    getattr(signal, f"SIG{name}")
    for name in "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL SEGV PIPE TERM XCPU XFSZ SYS".split()
)
_PASSED_ON = frozenset(
    (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)
)
# subprocess and multiprocessing of Python, torch's spawn and elastic, bash and dash, and a shell's 128 + n.
# Compiled at the first failure.
_SAID = (
    r"(?m)died with <Signals\.(?P<name>SIG[A-Z]+)|terminated with signal (?P<torch>SIG[A-Z]+)|"
    r"Signal \d+ \((?P<elastic>SIG[A-Z]+)\) received|exitcode\b\W{0,4}-(?P<number>\d{1,2})\b|"
    r"non-zero exit status (?P<status>1[2-5]\d)\b|"
    r"(?:^|: )\s*(?:\d+ +)?(?P<word>Segmentation fault|Bus error|Floating point exception|Aborted|Killed)"
    r"(?: \(core dumped\)|\s{2}|[.:!]?\s*$)"
)
_WORDS = {
    "Segmentation fault": signal.SIGSEGV,
    "Bus error": signal.SIGBUS,
    "Floating point exception": signal.SIGFPE,
    "Aborted": signal.SIGABRT,
    "Killed": signal.SIGKILL,
}


def signal_said(text: str) -> int:
    """Return the signal that killed a process, by what its parent wrote about it; 0: none is named."""
    match = re.search(_SAID, text)
    if match is None:
        return 0
    found = match.groupdict()
    name = found["name"] or found["torch"] or found["elastic"]
    if name:
        return int(getattr(signal, name, 0))
    if found["word"]:
        return _WORDS[found["word"]]
    return int(found["number"]) if found["number"] else signal_of(int(found["status"]))


def signal_of(code: int | None) -> int:
    """Return the signal that ended a process, or one that it started; 0: none. `code` is -n for signal n."""
    if code is None:
        return 0
    if code < 0:
        return -code
    if code - 128 in _OF_SHELLS:
        return code - 128
    return 256 - code if 256 - code in _PASSED_ON else 0
