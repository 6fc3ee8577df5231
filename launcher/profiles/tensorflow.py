"""What TensorFlow's adapter for Ascend (npu_bridge, npu_device) reads, and what would mislead it."""

from __future__ import annotations

import ipaddress
import re
import zlib
from typing import Iterator, Mapping

from launcher.hccl import variables
from launcher.profiles.base import (
    TORCH_NAMES,
    TORCH_PREFIXES,
    Profile,
    RankContext,
    VariableFinding,
    without_table,
)

TABLE_FAMILY = ("RANK_TABLE_FILE", "RANK_ID", "RANK_SIZE")
# A shell's are removed; a job may set them under `env`, and a note says what the adapter makes of them.
ASKED_FOR = {
    "AOE_MODE": "set: the adapter starts a tuning job beside the training; give iterations_per_loop=1, as "
    "with it older adapters make one step a call",
    "HELP_CLUSTER": "set: the adapter turns HCCL on even where it finds no rank table",
}
FREE_CHIPS = ("", "910A", "A2")  # rank-table-free mode: Atlas training and A2 alone
_JOB_ID = re.compile(r"[A-Za-z0-9_-]+\Z")


class TensorFlowProfile(Profile):
    """The needs of a rank that trains with TensorFlow."""

    name = "tensorflow"
    device_index = "ASCEND_DEVICE_ID"
    job_may_index = True
    removed = (*TORCH_NAMES, "POD_NAME", "TF_CONFIG", "RESTORE_FROM", "LOCAL_CHECKPOINT_DIR", *ASKED_FOR)
    # With CM_* and the rank table's family the adapter logs an error, uses neither, and every process
    # trains alone.
    removed_prefixes = (*TORCH_PREFIXES, "CM_")

    def variables(self, context: RankContext) -> dict[str, str]:
        """Return the JOB_ID, without which the adapter does not start."""
        return {"JOB_ID": job_id(context.run_id)}

    def completed(self, env: dict[str, str], context: RankContext) -> dict[str, str]:
        """Exchange the rank table's variables for those of rank-table-free mode, where the job says so."""
        if not context.table_free or context.backend != "npu":
            return env
        return without_rank_table(
            env,
            chief_ip=context.chief_address,
            chief_device=context.chief_device,
            worker_ip=context.address,
        )

    def findings(self, env: Mapping[str, str], chip: str) -> Iterator[VariableFinding]:
        """Yield what the adapter would refuse or misread."""
        yield from _families(env, chip)
        yield from _identity(env)
        for name, effect in ASKED_FOR.items():
            if name in env:
                yield variables.NOTE, name, effect


TENSORFLOW = TensorFlowProfile()


def without_rank_table(
    env: Mapping[str, str], *, chief_ip: str, chief_device: int, worker_ip: str
) -> dict[str, str]:
    """Exchange the rank table's variables for those by which HCCL finds the ranks itself.

    TensorFlow's adapter alone knows this mode, on 910A and A2; it must not see both families.
    """
    free = without_table(env, TABLE_FAMILY)
    free.update(
        CM_CHIEF_IP=chief_ip,
        CM_CHIEF_PORT=str(chief_port(env["NPU_LAUNCH_RUN_ID"])),
        CM_CHIEF_DEVICE=str(chief_device),
        CM_WORKER_SIZE=env["RANK_SIZE"],
        CM_WORKER_IP=worker_ip,
    )
    return free


def chief_port(run_id: str) -> int:
    """Choose a port of 61000 to 64999: the same on all hosts of a run, rarely that of another run."""
    return 61000 + zlib.crc32(run_id.encode()) % 4000


def job_id(text: str) -> str:
    """Make a JOB_ID that the adapter takes: letters, digits, - and _; not digits alone with a leading 0."""
    cleaned = re.sub(r"[^A-Za-z0-9_-]", "-", text) or "job"
    return "job-" + cleaned if re.match(r"0\d*\Z", cleaned) else cleaned


def _families(env: Mapping[str, str], chip: str) -> Iterator[VariableFinding]:
    free = sorted(name for name in env if name.startswith("CM_"))
    table = [name for name in TABLE_FAMILY if name in env]
    if free and table:
        text = (
            f"set beside {table[0]}: the adapter would use neither, and every process train alone; "
            "remove it, or set rank_table_free: true"
        )
        yield variables.ERROR, free[0], text
    elif free:
        yield from _free_mode(env, chip)


def _free_mode(env: Mapping[str, str], chip: str) -> Iterator[VariableFinding]:
    if chip not in FREE_CHIPS:
        yield variables.ERROR, "rank_table_free", f"not available on {chip}; only 910A and A2 have this mode"
    for name in ("CM_CHIEF_IP", "CM_WORKER_IP"):
        value = env.get(name, "")
        if not _is_address(value):
            text = (
                f"{value!r} is not an IP address; give the host's address as server_id in the inventory file"
            )
            yield variables.ERROR, name, text
    for name, high in (("CM_CHIEF_PORT", 65520), ("CM_WORKER_SIZE", 32768)):
        value = env.get(name, "")
        problem = variables.whole(0, high)(value)
        if problem:
            yield variables.ERROR, name, f"{value!r}; {problem}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _identity(env: Mapping[str, str]) -> Iterator[VariableFinding]:
    value = env.get("JOB_ID", "")
    if not _JOB_ID.match(value) or re.match(r"0\d*\Z", value):
        yield variables.ERROR, "JOB_ID", f"{value!r}; give letters, digits, - and _, not digits after a 0"
    if env.get("POD_NAME") and "RANK_TABLE_FILE" in env:
        text = "set: the adapter would look for a pod instead of RANK_ID; remove it"
        yield variables.ERROR, "POD_NAME", text
    value = env.get("ASCEND_DEVICE_ID", "")
    if not value.isdigit():
        text = f"{value!r} is not a logical device id; remove it from env, as npu-launch sets it"
        yield variables.ERROR, "ASCEND_DEVICE_ID", text
