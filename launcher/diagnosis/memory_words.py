"""What programs write when memory runs out, which memory it was, and what to do.

Loaded at the first failure. Sources of the texts: torch/csrc/DataLoader.cpp, torch/utils/data/dataloader.py
and aten/src/ATen/MapAllocator.cpp (PyTorch 1.8 to 2.9), torch_npu's NPUCachingAllocator, TensorFlow's BFC
allocator, CANN's error_code.json, numpy, glibc, Linux's mm/oom_kill.c, Slurm.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from launcher.hccl.error_codes import DEVICE_MEMORY


class Shortage(NamedTuple):
    """A kind of memory that ran out, the line that says so, and the next step."""

    kind: str
    line: str
    what_to_do: str

    def __str__(self) -> str:
        return f"out of memory ({self.kind}): {self.what_to_do}"


SHARED = (
    "shared memory, /dev/shm",
    "raise it (docker run --shm-size=16g; Kubernetes: an emptyDir with medium: Memory on /dev/shm) "
    "or use fewer workers",
)
HOST = (
    "of the host",
    "use fewer workers or a smaller batch, or raise the limit (docker --memory, Kubernetes limits.memory, "
    "sbatch --mem)",
)
DEVICE = ("of the device", DEVICE_MEMORY)

_SHARED_PLACE = re.compile(r"(?i)/dev/shm|\(shm\)|</?torch_|shared memory|DataLoader worker")
_SHARED = re.compile(
    r"(?i)insufficient shared memory|out of shared memory|no space left on device|bus error|"
    r"cannot allocate memory|unable to (?:write|open|mmap|resize|allocate)|resource temporarily unavailable"
)
_DEVICE = re.compile(
    r"(?i)\b(?:NPU|CUDA|HIP|GPU|device|HBM) out of memory|out of memory on device|\bOutOfMemoryError|"
    r"out of (?:device|HBM|NPU) memory|OOM when allocating.*device:(?!CPU)|\bE(?:L0004|I0011)\b|"
    r"(?:err\w*|code|ret\w*|fail\w*|result)\W.{0,20}\b2070(?:01|18)\b|insufficient NPU memory"
)
_HOST = re.compile(
    r"(?i)std::bad_alloc|cannot allocate memory|MemoryError\b|OOM when allocating|ResourceExhaustedError|"
    r"out of memory|not enough memory|can't allocate memory|unable to allocate [\d.]+ [KMGT]i?B|"
    r"oom[-_ ]kill|out-of-memory handler|\bE(?:E1013|H0010|K020[12])\b"
)
# Not "DataLoader worker (pid 7) is killed by signal: Killed": who sent it, the kernel or the cgroup must say.
_LINE = 2000  # characters of a line that are looked at


def shortage_in(text: str) -> Shortage | None:
    """Find the line of a text that says that memory ran out; None: there is none."""
    lines = [line[:_LINE] for line in text.split("\n")]
    for line in lines:
        if _SHARED.search(line) and _SHARED_PLACE.search(line):
            return Shortage(SHARED[0], line.strip()[:200], SHARED[1])
    for pattern, (kind, what_to_do) in ((_DEVICE, DEVICE), (_HOST, HOST)):
        for line in filter(pattern.search, lines):
            return Shortage(kind, line.strip()[:200], what_to_do)
    return None
