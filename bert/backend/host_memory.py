"""Tell the C library what to do with the memory that TensorFlow frees."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of mallopt(3), glibc's malloc.h


def give_back() -> None:
    """Return free memory to the kernel: what reading a checkpoint needed is not needed again."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_freed() -> bool:
    """Keep freed memory for the next step; False if the C library has no such option.

    By default glibc returns every large array to the kernel when it is freed and asks for it again in the
    next operation; the kernel then clears it page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(*option) for option in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)))
