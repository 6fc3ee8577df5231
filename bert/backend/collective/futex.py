"""Wait in the kernel until another process changes a word of shared memory (futex(2))."""

from __future__ import annotations

import ctypes
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_NUMBER = {"x86_64": 202, "aarch64": 98}.get(os.uname().machine, 0)
_WAIT, _WAKE, _ALL = 0, 1, 2**31 - 1
_CALL = ctypes.CDLL(None, use_errno=True).syscall


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def address_of(words: np.ndarray, index: int) -> int:
    """Return the address of an element of an array."""
    return int(words.ctypes.data) + index * words.strides[0]


def wait(address: int, value: int, seconds: float) -> None:
    """Sleep while the 32-bit word at `address` is `value`, at most `seconds`; it may return early."""
    if not _NUMBER:
        time.sleep(0.0002)
        return
    limit = _Timespec(int(seconds), int(seconds % 1.0 * 1e9))
    _CALL(_NUMBER, ctypes.c_void_p(address), _WAIT, ctypes.c_uint32(value), ctypes.byref(limit), None, 0)


def wake(address: int) -> None:
    """Wake every process that waits for the word at `address`."""
    if _NUMBER:
        _CALL(_NUMBER, ctypes.c_void_p(address), _WAKE, _ALL, None, None, 0)
