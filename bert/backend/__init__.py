"""What the trainer knows of a device, and the CPU and NPU answers."""

from __future__ import annotations

import glob

from bert.backend.base import Backend
from bert.backend.npu_options import NpuOptions
from bert.cluster import Cluster


def create(
    cluster: Cluster,
    name: str = "auto",
    npu: NpuOptions | None = None,
    amp: bool = False,
    collective: str = "auto",
) -> Backend:
    """Open the device of this rank. TensorFlow is imported here.

    amp: mixed precision on a CPU (on an NPU its options say it).
    collective: auto, shm or grpc, for the ranks on CPUs.
    name: cpu, npu, or auto: what the launcher chose, and without one npu where a device and its adapter are.
    """
    if choose(cluster.backend if name == "auto" else name) == "npu":
        from bert.backend.npu import NpuBackend

        return NpuBackend(cluster, npu or NpuOptions())
    from bert.backend.cpu import CpuBackend

    return CpuBackend(cluster, amp, collective)


def choose(name: str) -> str:
    """Resolve auto. ValueError: no such backend."""
    if name not in ("auto", "cpu", "npu"):
        raise ValueError(f"backend {name!r}: give cpu, npu or auto")
    if name != "auto":
        return name
    from bert.backend import adapter

    return "npu" if glob.glob("/dev/davinci[0-9]*") and adapter.available() else "cpu"
