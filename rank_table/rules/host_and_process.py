"""Rules 13, 14, 15 and 22 and the SDIDs: they compare the table with a process or a host."""

from __future__ import annotations

from typing import Mapping

from rank_table.inventory import Device, Host
from rank_table.model import Rank
from rank_table.ranges import spell
from rank_table.rules.finding import Report
from rank_table.table import RankTable


def check_process(table: RankTable, environ: Mapping[str, str], physical: int | None, report: Report) -> None:
    """Compare a process with the table: RANK_ID, and the physical id of its device (None: unknown)."""
    text = environ.get("RANK_ID", "")
    if not (text.isdigit() and text.isascii() and len(text) <= 10):
        report.error(
            "process.rank_id", "RANK_ID", text, "not digits only", "set RANK_ID to the process's rank"
        )
        return
    rank = int(text)
    if rank >= table.world_size:
        message = f"the table has ranks 0 to {table.world_size - 1}"
        report.error(
            "process.rank_size", "RANK_ID", text, message, "start as many processes as the table has ranks"
        )
        return
    entry = table.by_rank(rank)
    if physical is not None and entry.device_id not in (-1, physical):
        message = f"the table gives rank {rank} device {entry.device_id}, the process has device {physical}"
        todo = "the table holds physical ids; ASCEND_DEVICE_ID is the logical one (npu-launch inventory)"
        report.error("process.device", f"rank {rank}", str(entry.device_id), message, todo)


def check_host(table: RankTable, host: Host, report: Report) -> None:
    """Compare a host's devices with its entry in the table: ids, addresses, super_device_ids."""
    mine = table.ranks_of(host.server_id)
    if not mine and len(table.servers) == 1:
        mine = table.ranks  # one server: its name need not be an address
    if not mine:
        message = f"not in the table, which has {', '.join(table.servers[:4])}"
        todo = "make the table again, or name the host as the table does (--server-id)"
        report.error("host.server", "", host.server_id, message, todo)
        return
    known = {device.device_id: device for device in host.devices}
    for rank in mine:
        _compare(rank, known, report)


def _compare(rank: Rank, known: dict[int, Device], report: Report) -> None:
    place = f"rank {rank.rank_id}"
    device = known.get(rank.device_id)
    if device is None:
        message = f"device {rank.device_id} is not on this host, which has {spell(sorted(known)) or 'none'}"
        report.error("host.device", place, str(rank.device_id), message, "write the N of /dev/davinciN")
        return
    if rank.device_ip and device.device_ip and device.device_ip not in rank.device_ip.split(","):
        message = f"its network port has {device.device_ip} ({device.origin.get('device_ip', '')})"
        report.error("host.device_ip", place, rank.device_ip, message, "make the table again on this host")
    wanted = device.super_device_id
    if rank.super_device_id and wanted and rank.super_device_id.strip() != wanted:
        message = f"the driver's SDID is {wanted}"
        report.error(
            "host.super_device_id", place, rank.super_device_id, message, "make the table again on this host"
        )
