"""The addresses of this host, without psutil."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import subprocess
import sys

import psutil
import pytest

from launcher.plan import interfaces

UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]


def test_they_are_those_that_psutil_finds() -> None:
    wanted = {
        (name, entry.address.partition("%")[0])
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    }
    assert {(name, str(address)) for name, address, _ in interfaces.addresses()} == wanted


@pytest.mark.skipif(subprocess.run([*UNSHARE, "true"]).returncode != 0, reason="no network namespaces")
def test_all_addresses_of_an_interface_are_told_with_their_networks() -> None:
    added = ("10.1.2.3/20", "10.9.9.9/32", "fd00::7/96")
    script = (
        "; ".join(["ip link set lo up", *(f"ip address add {text} dev lo" for text in added)])
        + f"; {sys.executable} -c 'from launcher.plan import interfaces as i;"
        + ' print(*(f"{name} {a}/{n}" for name, a, n in i.addresses()), sep="\\n")\''
    )
    done = subprocess.run([*UNSHARE, "sh", "-c", script], stdout=subprocess.PIPE, env=dict(os.environ))
    found = set(done.stdout.decode().splitlines())
    if len(found) < len(added):
        pytest.skip("no ip(8) here")
    assert {f"lo {text}" for text in added} <= found and "lo 127.0.0.1/8" in found


def test_of_a_tunnel_this_end_counts_and_damaged_answers_end_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "if_indextoname", lambda index: f"tun{index}")

    def attribute(kind: int, address: str) -> bytes:
        packed = ipaddress.ip_address(address).packed
        return struct.pack("=HH", 4 + len(packed), kind) + packed

    body = struct.pack("=BBBBI", 2, 32, 0, 0, 5) + attribute(1, "10.0.0.2") + attribute(2, "10.0.0.1")
    assert [(name, str(address), n) for name, address, n in interfaces._entry(body)] == [
        ("tun5", "10.0.0.1", 32)
    ]
    assert list(interfaces._messages(b"\0" * 16, 16)) == []
