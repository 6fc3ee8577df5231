"""Cores of ranks: a pure choice, inside what the kernel allows, near the device where that is known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.plan.cpu_binding import Topology, cores_for, parse_cores, read_nodes, read_topology
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
