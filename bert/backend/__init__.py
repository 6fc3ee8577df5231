"""The devices: what the trainer needs of one (base), and its CPU and NPU implementations."""

from __future__ import annotations

import glob
import os

from bert import environment
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
    """Open the device of this rank; TensorFlow is imported here.

    Args:
        name: cpu, npu, or auto: what the launcher chose; without a launcher, npu if this machine has a device
            and the adapter, else cpu.
        npu: options of an NPU.
        amp: mixed precision on a CPU (on an NPU the options say it).
        collective: auto, shm or grpc, for ranks on CPUs.
    """
    if choose(cluster.backend if name == "auto" else name) == "npu":
        from bert.backend.npu import NpuBackend

        return NpuBackend(cluster, npu or NpuOptions())
    from bert.backend.cpu import CpuBackend

    return CpuBackend(cluster, amp, collective)


def create_alone(name: str = "auto", npu: NpuOptions | None = None, amp: bool = False) -> Backend:
    """Open a device for a process that is no rank of a job: one that asks or scores a model.

    Of the job that may surround it the number of the NPU counts, and nothing else. The caller closes what is
    returned; one process has one NPU.

    Raises:
        TrainerError: the NPU does not open, as another process has it, say.
    """
    device = choose(os.environ.get("NPU_LAUNCH_BACKEND", "auto") if name == "auto" else name)
    environment.prepare(os.environ, device)
    if device == "npu":
        from bert.backend import adapter

        adapter.stand_alone(os.environ)
        with adapter.told_in_a_line():
            return create(Cluster(), device, npu, amp)
    return create(Cluster(), device, npu, amp)


def choose(name: str) -> str:
    """Resolve auto. ValueError: unknown backend."""
    if name not in ("auto", "cpu", "npu"):
        raise ValueError(f"backend {name!r} is unknown; give cpu, npu or auto")
    if name != "auto":
        return name
    from bert.backend import adapter

    return "npu" if glob.glob("/dev/davinci[0-9]*") and adapter.available() else "cpu"
