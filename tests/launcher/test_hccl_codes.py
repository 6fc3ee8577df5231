"""Codes of HCCL and CANN are found in text and explained; numbers that only look alike are not."""

from __future__ import annotations

import pytest

from launcher.hccl.error_codes import explain


@pytest.mark.parametrize(
    "text,codes",
    [
        ("EI0006: Getting socket times out. Reason: ...", ["EI0006"]),
        ("[ERROR] ... The last training process is running, wait", ["EJ0001"]),
        ("E39007 then EI0002, EI0002 again", ["E39007", "EI0002"]),
        ("ret=507033, open device 0 failed", ["507033"]),
        ("rtSetDevice failed: 207001.", ["207001"]),
        ("[wait socket establish timeout]", ["EI0006"]),
        ("E30006[PID: 7] OPP", ["E30006"]),
        ("bind fail EJ0003; EI0019", ["EJ0003", "EI0019"]),
        ("HCCL_EI0006X, 15070331, 1507033, EI00066, EI9998, ERR02499, XERR00100", []),
        ("EL0004: [PID: 77] 2026-03-01 Failed to allocate memory requested by runtime.", ["EL0004"]),
        ("RuntimeError: NPU out of memory. Tried to allocate 2.00 GiB", ["NPU out of memory"]),
        ("ERR00100 PTA call acl api failed\nEE9999: Inner Error!", ["ERR00100", "EE9999"]),
        ("NPU function error: aclrtSynchronizeDevice, error code is 507010", ["507010"]),
        ("rtStreamSynchronize failed:\n  runtime result = 507035.", ["507035"]),
        ("Warning: NPU warning, error code is 507018[Error]:", ["507018"]),
        ("EJ0003: [PID: 159] Failed to bind the IP port.\nEJ0002, EJ0004", ["EJ0003", "EJ0002", "EJ0004"]),
        ("NPU function error: call aclnnInplaceCopy failed, error code is 561103", ["561103"]),
        ("(allocate:x.cpp:2050 NPU error, error code is 107002\n[Error]: The context is empty.", ["107002"]),
        ("ACL stream synchronize failed, error code:107020", ["107020"]),
        ("[ERROR] 2026-03-01-10:00:00 (PID:7, Device:0, RankID:0) ERR02011 DIST timeout error", ["ERR02011"]),
        ("ERR01004 OPS invalid pointer, ERR04009 PROF, ERR03300 GRAPH", ["ERR01004", "ERR04009", "ERR03300"]),
        ("HCCL function error: HcclGetRootInfo(&hcclID), error code is 7\nEJ0003: Failed to bind",
         ["HCCL error code 7", "EJ0003"]),
        ("HCCL function error: hcclCommInitRootInfoConfig(numRanks, config), error code is 15",
         ["HCCL error code 15"]),
        ("OPS function error: HcclReduce, error code is 6; HcclX, error code is 99", ["HCCL error code 6"]),
        # torch 1.11, torch 2.13
        ("RuntimeError: The server socket has failed to bind to x:29 (errno: 98 - Address already in use).",
         ["EADDRINUSE"]),
        ("DistNetworkError: code: -98, name: EADDRINUSE, message: address already in use", ["EADDRINUSE"]),
        ("step 161002, 561003 samples a second", []),
        ("samples seen: 207001\nglobal step 507018 of 900000\n507015 | 0.31", []),
        ("", []),
    ],
)
def test_codes_are_found_in_their_order_each_once(text: str, codes: list) -> None:  # type: ignore[type-arg]
    assert [item.code for item in explain(text)] == codes


def test_a_port_that_is_taken_is_explained_with_the_ports_of_hccl() -> None:
    (found,) = explain("EJ0003: Failed to bind the IP port.")
    assert all(word in found.what_to_do for word in ("60000", "16666", "HCCL_IF_BASE_PORT", "ss -tlnp"))


def test_an_explanation_is_one_line_that_says_what_to_do() -> None:
    codes = (
        "EI0001 EI0002 EI0004 EI0006 EI0014 EI0019 EI0020 EJ0001 EJ0003 E39007 E30006 507033 EL0004 EE1001 "
        "EE9999 EZ9999 EH9999 E19999 E39999 EI9999 507010 507011 507014 507015 507018 507035 507046 507899 "
        "ERR00100 ERR02005 ERR02200 ERR99999 107000 107019 207000 207008 361001 561107 507042 507904"
    )
    found = explain(f"error {codes}")
    assert len(found) == len(codes.split())
    assert all(
        item.what_to_do and "\n" not in str(item) and str(item).startswith(item.code) for item in found
    )
