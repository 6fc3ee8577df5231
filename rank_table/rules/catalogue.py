"""Every rule of the checker: its id, the code that HCCL reports, and what it requires."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """The HCCL code of a rule ("" when HCCL itself reports nothing) and what it requires."""

    code: str
    requires: str


_PARSE, _VALUE, _MISSING = "EI0004", "EI0014", "EI0017"

RULES: dict[str, Rule] = {
    # the file
    "file.kind": Rule(_PARSE, "the path names a regular file"),
    "file.name": Rule(_PARSE, "the first .json in the path is its end"),
    "file.symlink": Rule("", "no symbolic link: torch_npu refuses it, HCCL follows it"),
    # its text
    "json.encoding": Rule(_PARSE, "the text is UTF-8"),
    "json.empty": Rule(_PARSE, "the file is not empty"),
    "json.size": Rule(_PARSE, "the text is at most 40 MiB long"),
    "json.comment": Rule(_PARSE, "no comments"),
    "json.trailing-comma": Rule(_PARSE, "no comma before a closing bracket"),
    "json.missing-comma": Rule(_PARSE, "a comma between two values"),
    "json.kubectl": Rule(_PARSE, "no output of kubectl describe around the document"),
    "json.elision": Rule(_PARSE, "no `...` where entries were left out"),
    "json.placeholder": Rule(_PARSE, "no template text that was not filled in"),
    "json.bracket": Rule(_PARSE, "every bracket is closed by its counterpart"),
    "json.depth": Rule(_PARSE, "no deeper nesting than in a rank table"),
    "json.syntax": Rule(_PARSE, "standard JSON"),
    "json.duplicate-key": Rule("", "no key twice in one object: the last one counts"),
    # what document it is
    "kind.global-ranktable": Rule(_VALUE, "not MindIE's global-ranktable"),
    "kind.prefill-decode": Rule(_VALUE, "not vllm-ascend's prefill and decode table"),
    "kind.tor": Rule(_VALUE, "not the TOR switch map of Volcano"),
    "kind.local-comm-res": Rule(_VALUE, "not the local_comm_res of LLM-DataDist"),
    "kind.rootinfo": Rule(_VALUE, "not the root info of one Ascend 950 host"),
    "kind.topology": Rule(_VALUE, "not an Ascend 950 topology file"),
    "kind.inventory": Rule(_VALUE, "not an inventory of npu-launch"),
    "kind.configmap": Rule(_VALUE, "not a Kubernetes object that holds the table as text"),
    "kind.annotation": Rule(_VALUE, "not the device annotation of one pod"),
    "kind.old-draft": Rule(_VALUE, "not the draft of 2.0 (level, id, rank_addrs)"),
    "kind.unknown": Rule(_VALUE, "the document has keys of a rank table"),
    # every layout
    "status.missing": Rule(_MISSING, "status is present, as text"),
    "status.waiting": Rule(_VALUE, "status is completed: HCCL waits 30 minutes for it, then gives up"),
    "version.missing": Rule(_VALUE, "version is present, except in the legacy template"),
    "version.unknown": Rule(_VALUE, "version is 1.0, 1.1, 1.2 or 2.0"),
    "version.layout": Rule(_VALUE, "the document has the layout of its version"),
    "version.chip": Rule(_VALUE, "the chip's HCCL reads this version"),
    "scalar.string": Rule(_VALUE, "in 1.x every value is a JSON string"),
    "number.text": Rule("", "digits only: HCCL ignores blanks, + and a tail, other readers do not"),
    # 1.0 and 1.2, in HCCL's order
    "server_list.missing": Rule(_VALUE, "server_list is a list with at least one server"),
    "server_count": Rule(_VALUE, "server_count equals the number of servers"),
    "server_id.length": Rule(_VALUE, "server_id has 1 to 64 characters"),
    "server_id.unique": Rule(_VALUE, "every server has its own server_id"),
    "device.missing": Rule(_VALUE, "every server has a list of at least one device"),
    "device_id.number": Rule(_VALUE, "device_id is a number: the physical id"),
    "device_id.range": Rule(_VALUE, "device_id is at most 7 (910A) or 15 (A2, A3)"),
    "device_ip.count": Rule(_VALUE, "every device has the same number of addresses"),
    "device_ip.missing": Rule(_VALUE, "device_ip is set with several servers or HCCL_INTRA_ROCE_ENABLE=1"),
    "ip.invalid": Rule(_VALUE, "addresses are IPv4 or IPv6"),
    "device_ip.unique": Rule(_VALUE, "every device_ip is unique in the table"),
    "rank_id.number": Rule(_VALUE, "rank_id is a non-negative integer"),
    "super_pod.missing": Rule("", "1.2 has a super_pod_list; without it the servers are single ones"),
    "super_pod.id": Rule(_VALUE, "super_pod_id has 1 to 127 characters"),
    "super_pod.unique": Rule(_VALUE, "every super pod has its own super_pod_id"),
    "super_pod.server": Rule(_VALUE, "super pods name servers of server_list"),
    "super_pod.cover": Rule(_VALUE, "every server is in exactly one super pod"),
    "super_device_id.missing": Rule(_VALUE, "every device of a super pod has a super_device_id"),
    "super_device_id.number": Rule(_VALUE, "super_device_id is a decimal number"),
    "super_device_id.unique": Rule(_VALUE, "super_device_id is unique in its super pod"),
    "host_ip.mode": Rule(_VALUE, "when rank 0 has host_ip and no device_ip, all servers have host_ip"),
    "rank_id.sequence": Rule(_VALUE, "rank_ids are 0 to n-1, each once"),
    "ip.family": Rule(_VALUE, "with several servers all addresses are of one family"),
    "server.balance": Rule(_VALUE, "910A: every server has the same number of devices"),
    "device_id.unique": Rule(_VALUE, "a device_id is unique in its server"),
    "device.four-set": Rule(_VALUE, "910A: four devices form one of the eight sets that are linked"),
    "device.nic-list": Rule(_VALUE, "910A: servers with 8 devices have addresses on the same devices"),
    "port.range": Rule(_VALUE, "ports are 1 to 65535"),
    # this process, this host
    "process.rank_id": Rule("EI0003", "RANK_ID is digits only"),
    "process.rank_size": Rule(_VALUE, "RANK_ID is less than the number of ranks"),
    "process.device": Rule(_VALUE, "the process has the physical device of its rank"),
    "host.server": Rule("", "this host is in the table"),
    "host.device": Rule("", "the devices of this host in the table exist"),
    "host.device_ip": Rule(_VALUE, "device_ip is the address of the device's network port"),
    "host.super_device_id": Rule(_VALUE, "super_device_id is the driver's SDID"),
    # documented, not checked by HCCL's parser
    "doc.interleaved": Rule("", "rank_ids of a server follow each other"),
    "doc.order": Rule("", "rank_ids of a server follow the physical ids"),
    "doc.server-id": Rule("", "server_id is not a 127.x address"),
    "doc.legacy": Rule("", "1.0 instead of the legacy template"),
    "doc.pods-adjacent": Rule("", "servers of one super pod follow each other"),
    "doc.a3-device_ip": Rule("", "A3: device_ip with several super pods or HCCL_INTER_HCCS_DISABLE=TRUE"),
    "doc.a3-super-device": Rule("", "A3 over HCCS: 1.2 with super_device_id"),
    "doc.910a-count": Rule("", "910A: 1, 2, 4 or 8 devices on a server"),
    "doc.910a-group": Rule("", "910A: 2 or 4 devices within 0-3 or 4-7"),
    "doc.910a-same-set": Rule("", "910A: the same devices on every server"),
    "doc.910a-subnet": Rule("", "910A: devices n and n+4 share a subnet, the others do not"),
    "doc.servers": Rule("", "at most 512 servers (910A), 1024 (A2)"),
    "doc.a2-planes": Rule("", "A2 Box16: as many devices of 0-7 as of 8-15, on the same planes"),
    "doc.equal-counts": Rule("", "A2, A3: the same number of devices on every server"),
    "doc.port": Rule("", "ports above 1023"),
    "doc.host-port": Rule("", "a host_port of its own for every device of a server"),
    "doc.backup": Rule("", "A3: backup_device_ip is the sister die's, backup_device_port another port"),
    # 1.1
    "node_list.missing": Rule(_VALUE, "node_list is a list with at least one node"),
    "node_addr.unique": Rule(_VALUE, "every node has its own node_addr"),
    "collective_id.length": Rule(_VALUE, "collective_id has 1 to 127 characters"),
    # the legacy template
    "group_count": Rule(_VALUE, "group_count equals the number of groups, and is not 0"),
    "group_name.length": Rule(_VALUE, "group_name has at most 127 characters"),
    "instance_count": Rule(_VALUE, "instance_count equals the number of instances"),
    "instance.missing": Rule(_VALUE, "every group has instances, every instance devices"),
    "pod_name.unique": Rule(_VALUE, "every instance has its own pod_name"),
    "device_count": Rule("", "device_count (device_num) equals the number of devices"),
    "lab.nic-location": Rule(_VALUE, 'para_plane_nic_location is "device"'),
    "lab.average": Rule(_VALUE, "lab: 1, 2, 4, 8 or 16 devices per server, the same on all"),
    # 2.0
    "v2.number": Rule(_VALUE, "in 2.0 numbers are unsigned JSON numbers in their range"),
    "v2.rank_count": Rule(_VALUE, "rank_count is 1 to 65536 and the number of ranks"),
    "v2.rank_list": Rule(_VALUE, "rank_list is a list of objects"),
    "v2.rank_id": Rule(_VALUE, "rank_ids are 0 to n-1, each once"),
    "v2.backup": Rule(_VALUE, "one backup (local_id 64) at most; it names the unused local_id it replaces"),
    "v2.detour": Rule(_VALUE, 'detour is "true", "false" or ""'),
    "v2.levels": Rule(_VALUE, "level_list has at most 8 levels, net_layer ascending from 0 to 7"),
    "v2.net_instance_id": Rule(_VALUE, "net_instance_id has 1 to 1024 characters"),
    "v2.net_type": Rule(_VALUE, "net_type is one that HCCL knows"),
    "v2.address": Rule(_VALUE, "rank_addr_list has at most 24 addresses: EID, IPV4 or IPV6, each valid"),
    "v2.ports": Rule(_VALUE, "ports are 1 to 16 different texts of 1 to 32 characters"),
    "v2.port-address": Rule(_VALUE, "a port belongs to one address of a layer"),
    "v2.address-count": Rule(_VALUE, "ranks of a net instance have the same number of addresses"),
    "v2.text": Rule(_VALUE, "texts are JSON strings of a permitted length"),
}
