"""Cores of ranks: a pure choice, inside what the kernel allows, near the device where that is known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.plan.cpu_binding import Topology, cores_for, parse_cores, read_nodes, read_topology
from launcher.plan.cpu_quota import cpu_quota
from rank_table.ranges import spell
from tests.launching import launch
from tests.rank_table.conftest import FakeHost

# An Atlas 800 A2 with 192 cores: two NPUs a NUMA node, in no order, on every second node.
A2 = {0: "144-167", 1: "144-167", 2: "96-119", 3: "96-119", 4: "0-23", 5: "0-23", 6: "48-71", 7: "48-71"}
NEAR = {device: parse_cores(text) for device, text in A2.items()}
NODES = tuple(tuple(range(first, first + 24)) for first in range(0, 192, 24))
SERVER = Topology(tuple(range(192)), NODES, NEAR)


def spelled(cores: dict[int, object]) -> dict[int, str]:
    return {rank: spell(list(one)) for rank, one in cores.items()}  # type: ignore[call-overload]


def test_none_binds_nothing() -> None:
    assert cores_for("none", {0: 0}, SERVER) == {}


def test_even_gives_contiguous_shares() -> None:
    shares = spelled(cores_for("even", {rank: rank for rank in range(8)}, SERVER))
    assert shares[0] == "0-23" and shares[7] == "168-191"


def test_numa_gives_each_npu_the_cores_next_to_it_and_mates_share_them() -> None:
    shares = spelled(cores_for("numa", {rank: rank for rank in range(8)}, SERVER))
    assert [shares[n] for n in (0, 1, 2, 4, 7)] == ["144-155", "156-167", "96-107", "0-11", "60-71"]
    assert spelled(cores_for("numa", {0: 1}, SERVER)) == {0: "144-167"}


def test_numa_stays_inside_the_cpuset_and_falls_back_where_nothing_near_is_allowed() -> None:
    cut = Topology(tuple(range(150, 192)), NODES, NEAR)
    shares = spelled(cores_for("numa", {0: 0, 1: 1, 2: 4}, cut))
    assert shares[0] == "150-158" and shares[1] == "159-167"
    assert set(parse_cores(shares[2])) <= set(range(150, 192))


def test_numa_spreads_virtual_devices_over_the_nodes_in_blocks() -> None:
    two = Topology(tuple(range(16)), (tuple(range(8)), tuple(range(8, 16))))
    shares = spelled(cores_for("numa", {rank: rank for rank in range(4)}, two))
    assert shares == {0: "0-3", 1: "4-7", 2: "8-11", 3: "12-15"}


def test_more_ranks_than_cores_share_them() -> None:
    bound = cores_for("even", {rank: rank for rank in range(4)}, Topology((0, 5)))
    assert all(len(cores) == 1 for cores in bound.values())
    assert {core for cores in bound.values() for core in cores} == {0, 5}


@given(
    mode=st.sampled_from(["even", "numa"]),
    devices=st.dictionaries(st.integers(0, 20), st.integers(0, 9), min_size=1),
    allowed=st.sets(st.integers(0, 191), min_size=1),
)
def test_every_rank_gets_cores_that_are_allowed_and_no_two_share_while_there_are_enough(
    mode: str, devices: dict[int, int], allowed: set[int]
) -> None:
    bound = cores_for(mode, devices, Topology(tuple(sorted(allowed)), NODES, NEAR))
    assert set(bound) == set(devices)
    assert all(cores and set(cores) <= allowed for cores in bound.values())
    if mode == "even" and len(allowed) >= len(devices):
        given_out = [core for cores in bound.values() for core in cores]
        assert sorted(given_out) == sorted(allowed)
        sizes = {len(cores) for cores in bound.values()}
        assert max(sizes) - min(sizes) <= 1


def test_a_rank_gets_no_more_cores_than_its_share_of_the_quota_keeps_busy() -> None:
    limited = Topology(tuple(range(16)), quota=4.0)
    assert spelled(cores_for("even", {0: 0, 1: 1}, limited)) == {0: "0-1", 1: "8-9"}
    assert spelled(cores_for("numa", {rank: rank for rank in range(8)}, limited))[7] == "14"


TOP = "/kubepods/pod 1"
V1 = "31 30 0:27 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
V2 = "31 30 0:27 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw"


def limit(root: Path, group: str, quota: str, period: str = "100000") -> None:
    """Give a group a quota, in the files of both versions."""
    for place, files in (
        ("cpu,cpuacct" + group, {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": period}),
        (group.lstrip("/"), {"cpu.max": f"{quota if quota != '-1' else 'max'} {period}"}),
    ):
        folder = root / "sys/fs/cgroup" / place
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text + "\n")


def process(root: Path, mount: str, top: str, group: str) -> None:
    """Write what /proc says of the groups of this process."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_text("22 1 8:1 / / rw - ext4 x rw\n" + mount.format(top=top) + "\n")
    (root / "proc/self/cgroup").write_text(f"4:memory:/other\n3:cpuacct,cpu:{group}\n0::{group}\n")


@pytest.mark.parametrize("mount", [V1, V2])
@pytest.mark.parametrize(
    ("quotas", "top", "group", "cpus"),
    [
        ({"/a": "150000"}, "/", "/a", 1.5),
        ({"/a": "400000", "/a/b": "200000", "/a/b/c": "-1"}, "/", "/a/b/c", 2.0),  # the smallest of all above
        ({"/a": "100000"}, "/", "/other", float("inf")),
        ({"/a": "-1"}, "/", "/a", float("inf")),
        ({"": "300000"}, "/kubepods/pod\\0401", TOP, 3.0),  # a container that sees its own group as the root
        ({"": "300000", "/in": "100000"}, "/kubepods/pod\\0401", TOP + "/in", 1.0),
        ({"": "250000"}, "/", "/named/as/on/the/host", 2.5),
        ({"": "250000"}, "/docker/x", "/../y", 2.5),
        ({"/a": "many"}, "/", "/a", float("inf")),
        ({"/a": "0"}, "/", "/a", float("inf")),
    ],
)
def test_the_smallest_quota_of_the_groups_limits(
    tmp_path: Path, mount: str, quotas: dict[str, str], top: str, group: str, cpus: float
) -> None:
    for name, quota in quotas.items():
        limit(tmp_path, name, quota)
    process(tmp_path, mount, top, group)
    assert cpu_quota(str(tmp_path)) == cpus


def test_a_machine_without_groups_or_with_odd_ones_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(str(tmp_path)) == float("inf")
    limit(tmp_path, "/a", "100000", period="0")
    process(tmp_path, V2, "/", "/a")
    (tmp_path / "proc/self/cgroup").write_bytes(b"\xff\n::\n0::/a\n")
    (tmp_path / "proc/self/mountinfo").write_bytes(V2.format(top="/").encode() + b"\n\xff - cgroup\n-\n")
    assert cpu_quota(str(tmp_path)) == float("inf")


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UsageError, match=r"bind: unknown mode 'socket' \(expected none, even, numa"):
        cores_for("socket", {0: 0}, SERVER)


@pytest.mark.parametrize(
    "text,cores", [("0-2,8", (0, 1, 2, 8)), ("7\n", (7,)), ("", ()), ("0-1 4-5", (0, 1, 4, 5))]
)
def test_the_kernels_lists_are_read(text: str, cores: object) -> None:
    assert parse_cores(text) == cores


def test_the_topology_comes_from_npu_smi(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = shared / "data" / "npu_samples"
    host = FakeHost(tmp_path)
    host.nodes(*range(8))
    topo = (samples / "npu-smi-topo-a2-910B3.txt").read_text()
    host.tool("npu-smi", {"info": (samples / "npu-smi-info-a2-910B3.txt").read_text(), "info -t topo": topo})
    monkeypatch.setenv("PATH", "{}{}{}".format(host.bin, os.pathsep, os.environ["PATH"]))
    assert spelled(dict(read_topology("npu", range(8), str(host.root)).near)) == A2


def test_without_a_topology_the_pci_address_leads_to_the_numa_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = FakeHost(tmp_path)
    host.nodes(0, 1)
    board = "PCIe Bus Info                  : 0000:%s:00.0\n"
    host.tool("npu-smi", {"info -t board -i 0": board % "C1", "info -t board -i 1": board % "81"})
    host.file("/sys/bus/pci/devices/0000:c1:00.0/numa_node", "1\n")
    host.file("/sys/bus/pci/devices/0000:81:00.0/numa_node", "-1\n")
    for node, cores in ((0, "0-3"), (1, "4-7"), (10, "8-11"), (2, "\n")):
        host.file(f"/sys/devices/system/node/node{node}/cpulist", cores)
    monkeypatch.setenv("PATH", "{}{}{}".format(host.bin, os.pathsep, os.environ["PATH"]))
    assert read_nodes(str(host.root)) == ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))
    assert dict(read_topology("npu", (0, 1), str(host.root)).near) == {0: (4, 5, 6, 7)}


def test_the_ranks_run_on_their_cores_from_their_first_instruction(tmp_path: Path) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    count = min(2, len(allowed))
    words = ["--devices", f"0-{count - 1}", "--bind", "even", "--backend", "cpu"]
    command = ["grep", "Cpus_allowed_list", "/proc/self/status"]
    done = launch(tmp_path, *words, "--", *command)
    assert done.returncode == 0, done.stderr
    shares = cores_for("even", {rank: rank for rank in range(count)}, Topology(tuple(allowed)))
    shown = launch(tmp_path, "logs").stdout
    for rank, cores in shares.items():
        assert any(f" {rank}| " in line and line.split()[-1] == spell(cores) for line in shown.splitlines())
