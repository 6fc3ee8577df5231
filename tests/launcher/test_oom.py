"""Evidence that memory ran out, from the kernel's accounts."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from launcher.diagnosis import memory_words, out_of_memory
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


def test_a_bus_error_is_explained_by_a_full_or_small_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def holding(total: int, left: int) -> str:
        about = SimpleNamespace(f_blocks=total, f_bavail=left, f_frsize=1 << 20)
        monkeypatch.setattr(os, "statvfs", lambda path: about)
        return out_of_memory.shared_memory_full()

    assert "no room" in holding(16384, 1) and "little room" in holding(64, 60)
    assert holding(16384, 8000) == "" and holding(0, 0) == ""
    monkeypatch.undo()
    assert out_of_memory.shared_memory_full(str(tmp_path)) == ""


SHM, HOST, DEVICE = "shm", "of the host", "of the device"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("terminate called after throwing an instance of 'std::bad_alloc'", HOST),
        ("sh: fork: Cannot allocate memory", HOST),
        ("OSError: [Errno 12] Cannot allocate memory", HOST),
        ("OOM when allocating tensor with shape[8,512] and type float on /device:CPU:0", HOST),
        ("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 29.8 GiB for an array", HOST),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes", HOST),
        ("Memory cgroup out of memory: Killed process 77 (python) total-vm:9kB", HOST),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0", HOST),
        ("EE1013: Failed to allocate 4096 bytes of host memory", HOST),
        ("RuntimeError: DataLoader worker (pid 71) is killed by signal: Bus error. ", SHM),
        ("ERROR: Unexpected bus error encountered in worker: insufficient shared memory (shm).", SHM),
        ("RuntimeError: unable to write to file </torch_71_3>", SHM),
        ("RuntimeError: unable to mmap 8 bytes from file </torch_71_3>: Cannot allocate memory (12)", SHM),
        ("OSError: [Errno 28] No space left on device: '/dev/shm/psm_1'", SHM),
        ("RuntimeError: NPU out of memory. Tried to allocate 2.00 GiB (NPU 0; ...)", DEVICE),
        ("torch.OutOfMemoryError: HIP out of memory", DEVICE),
        ("EL0004: [PID: 77] Failed to allocate memory requested by runtime module.", DEVICE),
        ("rtMalloc failed, runtime result = 207001", DEVICE),
        ("ResourceExhaustedError: OOM when allocating tensor on /device:NPU:0 by allocator npu", DEVICE),
        ("step 3, memory 4 GB, all is well", ""),
        ("OSError: [Errno 28] No space left on device: '/data/model.ckpt'", ""),
        # anyone may have sent that signal
        ("RuntimeError: DataLoader worker (pid 71) is killed by signal: Killed. ", ""),
        ("RuntimeError: DataLoader worker (pid(s) 71, 72) exited unexpectedly", ""),
        ("RuntimeError: DataLoader worker (pid 71) is killed by signal: Terminated. ", ""),
        ("RuntimeError: DataLoader worker (pid 71) is killed by signal: Segmentation fault. ", ""),
        ("RuntimeError: DataLoader worker (pid 71) exited unexpectedly with exit code 3. Details", ""),
        ("Bus error", ""),
    ],
)
def test_a_ranks_own_words_are_evidence_and_lead_to_a_next_step(text: str, kind: str) -> None:
    found = memory_words.shortage_in(f"step 1\n{text}\n")
    assert bool(found) is bool(kind)
    if found:
        steps = {SHM: "--shm-size", HOST: "fewer workers", DEVICE: "npu-smi info"}
        assert kind in str(found) and steps[kind] in str(found) and found.line == text.strip()
