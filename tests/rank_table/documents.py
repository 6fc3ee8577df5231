"""Valid documents of every layout, for tests to break."""

from __future__ import annotations

from typing import Any


def v1(servers: int = 2, devices: int = 8, first: int = 0) -> dict[str, Any]:
    """Return a 1.0 table that is valid on every chip."""
    return {
        "version": "1.0",
        "status": "completed",
        "server_count": str(servers),
        "server_list": [
            {"server_id": f"10.0.0.{index + 1}", "device": v1_devices(index, devices, first)}
            for index in range(servers)
        ],
    }


def v1_devices(server: int, devices: int, first: int) -> list[dict[str, str]]:
    return [
        {
            "device_id": str(number),
            "device_ip": f"192.{number % 4}.{server}.{number + 1}",
            "rank_id": str(server * devices + number - first),
        }
        for number in range(first, first + devices)
    ]


def v1_2(pods: int = 2, servers: int = 2, devices: int = 4) -> dict[str, Any]:
    """Return a 1.2 table of super pods; SDIDs repeat from pod to pod, which is valid."""
    document = dict(v1(pods * servers, devices), version="1.2")
    for index, server in enumerate(document["server_list"]):
        for number, device in enumerate(server["device"]):
            device["super_device_id"] = str((index % servers) * devices + number)
    document["super_pod_list"] = [
        {
            "super_pod_id": f"pod-{pod}",
            "server_list": [{"server_id": f"10.0.0.{pod * servers + n + 1}"} for n in range(servers)],
        }
        for pod in range(pods)
    ]
    return document


def v1_1() -> dict[str, Any]:
    return {
        "version": "1.1",
        "status": "completed",
        "collective_id": "world",
        "node_list": [
            {"node_addr": "10.0.0.1", "ranks": [{"rank_id": "0", "device_id": "0", "rank_ip": "192.0.0.1"}]},
            {"node_addr": "10.0.0.2", "ranks": [{"rank_id": "1", "device_id": "-1", "port": "60008"}]},
        ],
    }


def cloud() -> dict[str, Any]:
    return {
        "status": "completed",
        "group_count": "1",
        "group_list": [
            {
                "group_name": "worker",
                "device_count": "4",
                "instance_count": "2",
                "instance_list": [
                    {
                        "pod_name": f"job-{pod}",
                        "server_id": f"10.0.0.{pod + 1}",
                        "devices": [
                            {"device_id": str(n), "device_ip": f"192.{n}.{pod}.1"} for n in range(2)
                        ],
                    }
                    for pod in range(2)
                ],
            }
        ],
    }


def lab() -> dict[str, Any]:
    return {
        "status": "completed",
        "deploy_mode": "lab",
        "para_plane_nic_location": "device",
        "group_count": "1",
        "group_list": [
            {
                "group_name": "",
                "device_num": "2",
                "server_num": "1",
                "instance_count": "2",
                "instance_list": [
                    {
                        "rank_id": str(rank),
                        "server_id": "10.0.0.1",
                        "devices": [{"device_id": str(rank), "device_ip": f"192.{rank}.0.1"}],
                    }
                    for rank in range(2)
                ],
            }
        ],
    }


def v2(ranks: int = 2) -> dict[str, Any]:
    return {
        "version": "2.0",
        "status": "completed",
        "rank_count": ranks,
        "rank_list": [
            {
                "rank_id": rank,
                "device_id": rank,
                "local_id": rank,
                "level_list": [
                    {
                        "net_layer": 0,
                        "net_instance_id": "az0-rack0",
                        "net_type": "TOPO_FILE_DESC",
                        "net_attr": "",
                        "rank_addr_list": [
                            {"addr_type": "IPV4", "addr": f"10.1.0.{rank + 1}", "ports": ["0/1"]}
                        ],
                    },
                    {
                        "net_layer": 1,
                        "net_instance_id": "az0",
                        "net_type": "CLOS",
                        "rank_addr_list": [
                            {
                                "addr_type": "EID",
                                "addr": f"{rank + 1:032x}",
                                "ports": ["1/5"],
                                "plane_id": "p0",
                            }
                        ],
                    },
                ],
            }
            for rank in range(ranks)
        ],
    }


ALL = {"1.0": v1, "1.1": v1_1, "1.2": v1_2, "2.0": v2, "cloud": cloud, "lab": lab}
