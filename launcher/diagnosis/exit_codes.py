"""The signal behind an exit code.

A shell reports 128 + n for a command that signal n killed (POSIX, Shell Command Language, 2.8.2); a Python
program that passes on the return code -n of a subprocess ends with 256 - n. 255 and 254 say nothing: ssh and
many programs end with -1 or -2 for any error.
"""

from __future__ import annotations

import signal

_OF_SHELLS = frozenset(
    getattr(signal, f"SIG{name}")
    for name in "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL SEGV PIPE TERM XCPU XFSZ SYS".split()
)
_PASSED_ON = frozenset(
    (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)
)


def signal_of(code: int | None) -> int:
    """Return the signal that ended a process, or one that it started; 0: none. `code` is -n for signal n."""
    if code is None:
        return 0
    if code < 0:
        return -code
    if code - 128 in _OF_SHELLS:
        return code - 128
    return 256 - code if 256 - code in _PASSED_ON else 0
