"""Health, holders and memory of devices as findings, the same for the preflight and for doctor."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Iterator, Sequence, Tuple

from launcher.checks.finding import ERROR, WARNING
from launcher.process import procfs

if TYPE_CHECKING:
    from rank_table.sources.npu_smi import SmiChip, SmiProcess

Problems = Iterator[Tuple[str, str, str]]  # (level, what is wrong, what to do)
# MB that an idle device shows as used: 0 (910A) to 6,632 (950) in public tables; up to 3,413 on A2 and A3.
IDLE_MEMORY = 8192
# Words of npu-smi's health column (OK, Warning, Alarm, Critical, UNKNOWN) that refuse no start.
_BEARABLE = re.compile(r"(?i)(general )?warning\Z|(NA|N/A|-)?\Z")
_HOST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of the kernel
_SHORTEST = 4  # characters of a name cut short that still tell something


def health(chips: Sequence[SmiChip]) -> Problems:
    """Refuse a device that is neither OK nor merely warned about."""
    for chip in chips:
        if chip.health == "OK":
            continue
        option = f" -c {chip.chip_id}" if "950" not in chip.name else ""
        command = f"`npu-smi info -t health -i {chip.npu_id}{option}`"
        if _BEARABLE.match(chip.health):
            said = chip.health if chip.health.lower().endswith("warning") else "of unknown health"
            yield WARNING, f"device {chip.device_id} is {said}", f"{command} shows why"
        else:
            todo = f"{command} shows why; leave it out of --devices"
            yield ERROR, f"device {chip.device_id} is {chip.health}", todo


def memory(chips: Sequence[SmiChip]) -> Problems:
    """Name a device whose memory is taken although no process is shown on it."""
    for chip in chips:
        if chip.processes or chip.used <= IDLE_MEMORY:
            continue
        what = f"device {chip.device_id}: {chip.used:,} of {chip.total:,} MB of its memory (HBM) are taken, "
        what += "and npu-smi shows no process on it"
        todo = "ask `npu-smi info` on the host: it may be another container, a process that is still ending, "
        yield WARNING, what, todo + "or memory that the driver lost (reset the device)"


def holder(process: SmiProcess) -> str:
    """Describe a process that npu-smi shows: as /proc has it where it surely is that one."""
    pid = local_pid(process)
    if pid:
        return procfs.describe(pid)
    if process.pid < 0:
        return str(process)
    return f"{process}, not visible here (another container or host, or it has ended)"


def local_pid(process: SmiProcess) -> int:
    """Return the pid of a process in this /proc; 0 where it has none, or another process may have that pid.

    npu-smi shows pids of the host. In a container these mean other processes: there the pid in the container
    counts, which is that of the process's own container, so the process must have a device open. Its name
    must fit either way.
    """
    if on_host():
        return process.pid if _fits(process.pid, process.name) else 0
    pid = process.inner_pid
    opened = any(path.startswith("/dev/davinci") for path in procfs.open_files(pid)) if pid > 0 else False
    return pid if opened and _fits(pid, process.name) else 0


def on_host() -> bool:
    """Tell whether the pids that this process sees are those of the host."""
    try:
        return os.readlink("/proc/self/ns/pid") == _HOST_NAMESPACE
    except OSError:
        return False


def _fits(pid: int, shown: str) -> bool:
    """Compare a name with that of a process: npu-smi cuts it short and leaves out colons, or shows none."""
    own, wanted = (re.sub(r"[^\w.-]", "", text) for text in (procfs.name(pid) if pid > 0 else "", shown))
    return own == wanted != "" or (len(wanted) >= _SHORTEST and own.startswith(wanted))
