"""Rules of HCCL's documentation that its parser does not check: warnings, each with its chip."""

from __future__ import annotations

from rank_table.ranges import spell
from rank_table.rules.finding import WARNING, Report
from rank_table.rules.v1 import Entry, View
from rank_table.rules.values import hint

MOST_SERVERS = (("910A", 512), ("A2", 1024))


def interleaved(view: View, report: Report) -> None:
    """Ranks of a server follow each other: {0,1,2,3} {4,5,6,7}, not {0,1,2,7} {3,4,5,6}."""
    for (path, _), entries in zip(view.servers, view.by_server):
        ranks = sorted({entry.rank_id for entry in entries if entry.rank_id is not None})
        if ranks and ranks[-1] - ranks[0] + 1 != len(ranks) and ranks[-1] < len(view.entries):
            message = f"ranks {spell(ranks)}: ranks of another server are between them"
            report.warning("doc.interleaved", path, None, message, "number server after server")


def order(view: View, report: Report) -> None:
    """Ranks of a server ascend with the physical ids."""
    for (path, _), entries in zip(view.servers, view.by_server):
        pairs = sorted(
            (e.rank_id, e.device_id) for e in entries if e.rank_id is not None and e.device_id is not None
        )
        devices = [device for _, device in pairs]
        if devices != sorted(devices):
            message = f"in the order of the ranks the devices are {','.join(map(str, devices[:16]))}"
            report.warning("doc.order", path, None, message, "give the lower rank to the lower device_id")


def server_ids(view: View, report: Report) -> None:
    """A 127.x server_id comes from resolving the host name and is the same on every host."""
    for (path, _), name in zip(view.servers, view.ids):
        if name.startswith("127.") and len(view.servers) > 1:
            todo = "write the host's address (npu-launch inventory --server-id)"
            report.warning("doc.server-id", path + ".server_id", name, "the same address on every host", todo)
        elif hint(name) and "*" in name:
            report.warning(
                "doc.server-id", path + ".server_id", name, "a masked name", "write the host's name"
            )


def counts_910a(view: View, report: Report) -> None:
    """910A: 1, 2, 4 or 8 devices; 2 or 4 within 0-3 or 4-7; the same ones on every server."""
    sets: list[list[int]] = []
    for (path, _), entries in zip(view.servers, view.by_server):
        ids = sorted({entry.device_id for entry in entries if entry.device_id is not None})
        sets.append(ids)
        if len(entries) not in (1, 2, 4, 8):
            message = f"{len(entries)} devices; 910A accepts 1, 2, 4 or 8"
            report.on(
                "910A", "doc.910a-count", path + ".device", None, message, "use another number", WARNING
            )
        elif len(entries) in (2, 4) and len({device // 4 for device in ids}) > 1:
            message = f"devices {spell(ids)} are in both 0-3 and 4-7, which are not linked"
            report.on(
                "910A", "doc.910a-group", path + ".device", None, message, "stay within one group", WARNING
            )
        if ids != sets[0]:
            message = f"devices {spell(ids)}, but {view.servers[0][0]} has {spell(sets[0])}"
            report.on(
                "910A", "doc.910a-same-set", path + ".device", None, message, "use the same ones", WARNING
            )


def servers(view: View, report: Report) -> None:
    """The largest documented cluster of a chip."""
    for chip, most in MOST_SERVERS:
        if len(view.servers) > most:
            message = f"{len(view.servers)} servers; {chip} is documented up to {most}"
            report.on(
                chip,
                "doc.servers",
                "server_list",
                None,
                message,
                "ask the vendor whether more are supported",
                WARNING,
            )


def equal_counts(view: View, report: Report) -> None:
    """A2, A3: the same number of devices on every server is recommended."""
    chip = "A2" if "A2" in report.chips else "A3"
    for (path, _), entries in zip(view.servers, view.by_server):
        if len(entries) != len(view.by_server[0]):
            message = f"{len(entries)} devices, but {view.servers[0][0]} has {len(view.by_server[0])}"
            report.on(
                chip,
                "doc.equal-counts",
                path + ".device",
                None,
                message,
                "list the same number on every server",
                WARNING,
            )


def planes_a2(view: View, report: Report) -> None:
    """A2 Box16: modules 0-7 and 8-15 use the same planes, 0 with 8, 1 with 9 ..."""
    for (path, _), entries in zip(view.servers, view.by_server):
        ids = {entry.device_id for entry in entries if entry.device_id is not None}
        low, high = {d for d in ids if d < 8}, {d - 8 for d in ids if d >= 8}
        if low and high and low != high:
            message = f"module 0-7 uses planes {spell(sorted(low))}, module 8-15 planes {spell(sorted(high))}"
            todo = "use the same planes of both (0 with 8, 1 with 9 ...)"
            report.on("A2", "doc.a2-planes", path + ".device", None, message, todo, WARNING)


def subnets_910a(view: View, report: Report) -> None:
    """910A: devices n and n+4 share a subnet. The table has no mask, so common leading bits are compared.

    Checked only when the chip is known: on A2 all devices share one subnet.
    """
    if report.chips != frozenset(("910A",)):
        return
    for (path, _), entries in zip(view.servers, view.by_server):
        bits = {e.device_id: _bits(e.ips[0]) for e in entries if e.ips and e.device_id is not None}
        for first in range(4):
            if len(bits) != 8 or first not in bits or first + 4 not in bits:
                break
            others = max(_shared(bits[first], bits[n]) for n in bits if n % 4 != first)
            if _shared(bits[first], bits[first + 4]) <= others:
                message = f"devices {first} and {first + 4} are not alone in a subnet"
                todo = "plan four subnets, for 0 and 4, 1 and 5, 2 and 6, 3 and 7"
                report.on("910A", "doc.910a-subnet", path, None, message, todo, WARNING)
                break


def _bits(address: str) -> str:
    parts = address.split(".")
    return "".join(format(int(part), "08b") for part in parts) if len(parts) == 4 else ""


def _shared(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def super_device_a3(view: View, report: Report) -> None:
    """A3 over HCCS: a 1.0 table has no super_device_id; the parser accepts it, and the links fail later."""
    if view.version == "1.0" and report.chips == frozenset(("A3",)):
        message = "1.0 on A3 is for AI servers without HCCS between them (devdrv_get_vnic_ip_by_sdid fail)"
        todo = "in a super pod make 1.2: npu-launch rank-table make --chip A3"
        report.on("A3", "doc.a3-super-device", "version", view.version, message, todo, WARNING)


def host_ports(view: View, report: Report) -> None:
    """A3: every device of a server has a host_port of its own."""
    for entries in view.by_server:
        seen: dict[str, str] = {}
        for entry in entries:
            port = entry.item.get("host_port")
            if isinstance(port, str) and port in seen:
                message = f"same as {seen[port]}"
                report.on(
                    "A3", "doc.host-port", entry.path + ".host_port", port, message, "write another", WARNING
                )
            elif isinstance(port, str):
                seen[port] = entry.path


def backups(view: View, report: Report) -> None:
    """A3 with operator retry: the backup address is the sister die's, on another port."""
    seen: dict[str, str] = {}
    for entries in view.by_server:
        by_id = {entry.device_id: entry for entry in entries}
        for entry in entries:
            backup = entry.item.get("backup_device_ip")
            if not isinstance(backup, str) or not backup or entry.device_id is None:
                continue
            where = entry.path + ".backup_device_ip"
            sister = by_id.get(entry.device_id ^ 1)
            if sister is not None and backup not in sister.ips:
                message = f"not the address of the sister die, device {entry.device_id ^ 1}"
                report.on("A3", "doc.backup", where, backup, message, "write that one", WARNING)
            if backup in seen:
                message = f"also the backup of {seen[backup]}"
                report.on("A3", "doc.backup", where, backup, message, "write another", WARNING)
            seen[backup] = entry.path
            _backup_port(entry, report)


def _backup_port(entry: Entry, report: Report) -> None:
    port = entry.item.get("backup_device_port")
    if port is not None and port == entry.item.get("device_port"):
        where = entry.path + ".backup_device_port"
        report.on("A3", "doc.backup", where, port, "same as device_port", "write another", WARNING)


RULES = (
    interleaved,
    order,
    server_ids,
    counts_910a,
    servers,
    equal_counts,
    planes_a2,
    subnets_910a,
    super_device_a3,
    host_ports,
    backups,
)
