"""Evidence that memory ran out, from the kernel's accounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.diagnosis import out_of_memory
from launcher.process.procfs import Usage


def kernel(root: Path, kills: int = 0, version: int = 2) -> Path:
    """Lay out the files of a kernel with one cgroup."""
    (root / "proc" / "self").mkdir(parents=True, exist_ok=True)
    line = "0::/job\n" if version == 2 else "4:memory:/job\n"
    (root / "proc" / "self" / "cgroup").write_text(line)
    (root / "proc" / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 500 kB\n")
    group = root / "sys/fs/cgroup" / ("job" if version == 2 else "memory/job")
    group.mkdir(parents=True, exist_ok=True)
    name = "memory.events" if version == 2 else "memory.oom_control"
    (group / name).write_text(f"low 0\noom 1\noom_kill {kills}\n")
    return root


@pytest.mark.parametrize("version", [1, 2])
def test_a_counter_that_rose_is_proof_and_one_that_stood_is_none(tmp_path: Path, version: int) -> None:
    evidence = out_of_memory.MemoryEvidence(str(kernel(tmp_path, 3, version)))
    assert evidence.killed({1}, Usage()) == ""
    kernel(tmp_path, 4, version)
    assert "OOM killer" in evidence.killed({1}, Usage())
    evidence.close()


def test_most_of_the_memory_in_one_rank_and_none_left_is_likely(tmp_path: Path) -> None:
    evidence = out_of_memory.MemoryEvidence(str(kernel(tmp_path)))
    assert "probably" in evidence.killed({1}, Usage(resident=900 * 1024, available=10 * 1024))
    assert evidence.killed({1}, Usage(resident=900 * 1024, available=400 * 1024)) == ""
    assert evidence.killed({1}, Usage(resident=100 * 1024, available=10 * 1024)) == ""


def test_a_machine_without_any_of_these_files_has_no_evidence(tmp_path: Path) -> None:
    evidence = out_of_memory.MemoryEvidence(str(tmp_path))
    assert evidence.killed({1}, Usage(resident=1 << 40)) == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"terminate called after throwing 'std::bad_alloc'\n", True),
        (b"sh: fork: Cannot allocate memory\n", True),
        (b"OOM when allocating tensor with shape[8,512]\n", True),
        (b"step 3, memory 4 GB, all is well\n", False),
    ],
)
def test_a_ranks_own_words_are_evidence(text: bytes, found: bool) -> None:
    assert bool(out_of_memory.message_in(b"step 1\n" + text)) is found
