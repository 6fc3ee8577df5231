"""What the trainer knows of a device, and the CPU and NPU answers."""

from __future__ import annotations

from bert.backend.base import Backend
from bert.cluster import Cluster


def create(cluster: Cluster, name: str = "auto") -> Backend:
    """Open the device of this rank. TensorFlow is imported here."""
    from bert.backend.cpu import CpuBackend

    return CpuBackend(cluster)
