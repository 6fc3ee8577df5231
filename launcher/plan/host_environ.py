"""The environment of a host's ranks: what belongs to a host is that host's, the rest is the head's.

A search path, a home or an address of the head means nothing on another host, or worse, something else.
"""

from __future__ import annotations

from typing import Iterable, Mapping

# Of the process and its host.
_OWN = frozenset(
    """_ HOME HOSTNAME HOST HOSTTYPE MACHTYPE OSTYPE USER LOGNAME SHELL SHLVL PWD OLDPWD TMPDIR TMP TEMP
    MAIL DISPLAY TERM_SESSION_ID TTY LS_COLORS VIRTUAL_ENV LD_PRELOAD BASH_ENV ENV INVOCATION_ID
    JOURNAL_STREAM HCCL_IF_IP CUDA_VISIBLE_DEVICES NPU_DEVICE_ORDINAL ASCEND_VISIBLE_DEVICES
    ASCEND_RT_VISIBLE_DEVICES XDL_IP HOST_IP POD_IP MA_CURRENT_HOST_IP MA_CURRENT_IP POD_NAME
    MA_CURRENT_INSTANCE_NAME BATCH_TASK_CURRENT_INSTANCE HostNetwork REPLICA_TYPE""".split()
)
_OWN_ENDS = ("PATH", "_HOME", "_PREFIX", "_ROOT", "_LIBRARY_DIR")
# Of the engine's process, which is the agent: a rank that read them would believe itself the engine's.
_OF_ENGINE = (
    "OMPI_", "PMIX_", "PMI_", "PRTE_", "ORTE_", "HYDRA_", "HYDI_", "MPIR_", "VC_", "VK_", "SRUN_",
    "SLURM_STEP", "SLURM_SRUN", "SLURM_TASK", "SLURM_NTASKS", "SLURM_LAUNCH", "SLURM_DISTRIBUTION",
    "SLURM_CPU_BIND",
)  # fmt: skip
_OF_TASK = frozenset(
    """SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_GTIDS SLURM_NPROCS SLURM_PRIO_PROCESS
    SLURM_TOPOLOGY_ADDR SLURM_TOPOLOGY_ADDR_PATTERN SLURM_UMASK JOB_COMPLETION_INDEX""".split()
)
_OF_HOST = ("SLURMD_", "SSH_", "XDG_", "DBUS_", "KUBERNETES_", "MINDX_", "npu_launch_", "NPU_LAUNCH_")


def is_of_host(name: str) -> bool:
    """Tell whether a variable belongs to one host, or to one process there."""
    if name in _OWN or name.endswith(_OWN_ENDS):
        return True
    return name.startswith(_OF_HOST) or is_of_engine(name)


def is_of_engine(name: str) -> bool:
    """Tell whether a variable tells a task of an engine its place."""
    return name in _OF_TASK or name.startswith(_OF_ENGINE)


def carried(environ: Mapping[str, str], exported: Iterable[str] = ()) -> dict[str, str]:
    """Return what goes from the head to every host: what belongs to no host, and what the job exports."""
    names = set(exported)
    return {name: value for name, value in environ.items() if name in names or not is_of_host(name)}


def on_host(own: Mapping[str, str], from_head: Mapping[str, str]) -> dict[str, str]:
    """Return the environment from which the ranks of a host get theirs: the host's own, then the head's."""
    kept = {name: value for name, value in own.items() if not is_of_engine(name)}
    return {**kept, **from_head}
