"""The names and ranges of HCCL's and the runtime's environment variables, checked before the start.

Source of names and ranges: docs/zh/user_guide/hccl_env of the HCCL documentation (2026-08). HCCL reports a
bad value as EI0001 once all ranks have started, and silently ignores a misspelt name.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Callable, Iterator, Mapping

from rank_table.ranges import parse_part
from rank_table.sources.visible import RT_VISIBLE

Rule = Callable[[str], str]  # value -> what was expected instead; "" when the value is good
ERROR, NOTE = "error", "note"
MOST_AIV = 1091  # seconds that a collective on AIV cores waits at most


def refused(env: Mapping[str, str], name: str, rule: Rule) -> Iterator[tuple[str, str, str]]:
    """Yield an error where a variable, set or not, has no value that a rule takes."""
    value = env.get(name, "")
    problem = rule(value)
    if problem:
        yield ERROR, name, f"{value!r}: {problem}"


def whole(low: int, high: int | None = None, step: int = 1) -> Rule:
    """Make the rule of a whole number in a range."""
    wanted = f"a whole number from {low}" + ("" if high is None else f" to {high}")
    wanted += f", a multiple of {step}" if step > 1 else ""

    def rule(value: str) -> str:
        if re.match(r"[+-]?\d+\Z", value) and low <= int(value) and (high is None or int(value) <= high):
            return "" if int(value) % step == 0 else _expected(wanted)
        return _expected(wanted)

    return rule


def one_of(*values: str) -> Rule:
    """Make the rule of a choice."""
    return lambda value: "" if value in values else _expected(" or ".join(values))


def like(pattern: str, example: str) -> Rule:
    """Make the rule of a pattern."""
    return lambda value: "" if re.match(pattern + r"\Z", value) else _expected(f"a value such as {example}")


def _address(value: str) -> str:
    try:
        ipaddress.ip_address(value.partition("%")[0])
    except ValueError:
        return _expected("one IPv4 or IPv6 address of this host")
    return ""


def _ports(value: str) -> str:
    """Ports and ranges joined by commas, 1 to 65535, without overlap; or auto."""
    if value == "auto":
        return ""
    taken: list[range] = []
    for part in value.split(","):
        ports = parse_part(part)
        if not ports or ports.start < 1 or ports.stop > 65536:
            return f"{part!r}: invalid port or range; expected a list such as 61000-61050, or auto"
        if any(ports.start < other.stop and other.start < ports.stop for other in taken):
            return f"{part}: overlaps with an earlier part"
        taken.append(ports)
    return ""


def _seconds(value: str) -> str:
    """0 means never on A2 and A3; AIV takes hundredths of a second."""
    try:
        number = float(value)
    except ValueError:
        return _expected("seconds")
    return "" if 0 <= number <= 2147483647 else _expected("seconds from 0 to 2147483647")


def _expected(what: str) -> str:
    return f"invalid value (expected {what})"


_FLAG = one_of("0", "1")
_SWITCH = one_of("TRUE", "FALSE")
RULES: dict[str, Rule | None] = {
    "HCCL_ALGO": None,
    "HCCL_ALG_MULTIPLE_DIMENSION_SPLIT_RATIO": None,
    "HCCL_BUFFSIZE": whole(1),
    "HCCL_CONNECT_TIMEOUT": whole(120, 7200),
    "HCCL_DEBUG_CONFIG": like(r"\^?(?i:alg|task|resource)(,(?i:alg|task|resource))*", "ALG,TASK"),
    "HCCL_DETERMINISTIC": one_of("true", "false", "strict"),
    "HCCL_DFS_CONFIG": None,
    "HCCL_DIAGNOSE_ENABLE": _FLAG,
    "HCCL_ENTRY_LOG_ENABLE": _FLAG,
    "HCCL_EXEC_TIMEOUT": _seconds,
    "HCCL_HOST_RDMA_UDP_PORTS_LIST": None,
    "HCCL_HOST_SOCKET_PORT_RANGE": _ports,
    "HCCL_IF_BASE_PORT": whole(1024, 65520),
    "HCCL_IF_IP": _address,
    "HCCL_INTER_HCCS_DISABLE": _SWITCH,
    "HCCL_INTRA_PCIE_ENABLE": _FLAG,
    "HCCL_INTRA_ROCE_ENABLE": _FLAG,
    "HCCL_LOGIC_SUPERPOD_ID": like(r".{0,127}", "super_pod_1, fewer than 128 characters"),
    "HCCL_MULTI_QP_THRESHOLD": whole(1, 8192),
    "HCCL_NPU_SOCKET_PORT_RANGE": _ports,
    "HCCL_OP_EXPANSION_MODE": None,
    "HCCL_OP_RETRY_ENABLE": like(r"L\d:[01](,\s*L\d:[01])*", "L1:0,L2:0"),
    "HCCL_OP_RETRY_PARAMS": like(r"\w+:\d+(,\s*\w+:\d+)*", "MaxCnt:3,HoldTime:5000,IntervalTime:1000"),
    "HCCL_RDMA_PCIE_DIRECT_POST_NOSTRICT": _SWITCH,
    "HCCL_RDMA_QPS_PER_CONNECTION": whole(1, 32),
    "HCCL_RDMA_QP_PORT_CONFIG_PATH": None,
    "HCCL_RDMA_RETRY_CNT": whole(1, 7),
    "HCCL_RDMA_SL": whole(0, 7),
    "HCCL_RDMA_TC": whole(0, 255, 4),
    "HCCL_RDMA_TIMEOUT": whole(0, 31),  # narrower by chip: 5 to 20 on A2 and A3
    "HCCL_SOCKET_FAMILY": one_of("AF_INET", "AF_INET6"),
    "HCCL_SOCKET_IFNAME": like(r"\^?=?[\w.@-]+(,[\w.@-]+)*", "eth, ^eth, =eth0 or ^=eth0"),
    "HCCL_TOPO_FILE_PATH": None,
    "HCCL_UB_MULTI_CHANNEL_NUM": None,
    "HCCL_WHITELIST_DISABLE": _FLAG,
    "HCCL_WHITELIST_FILE": None,
    "HCOMM_DEBUG_CONFIG": None,
    "HCOMM_TA_CTP_UB_TIMEOUT": None,
    "HCOMM_TA_RTP_UBOE_TIMEOUT": None,
    "HCOMM_TA_RTP_UB_TIMEOUT": None,
}
# Names without a rule here that programs beside a documented HCCL read, by who reads them.
READ_ELSEWHERE: dict[str, tuple[str, ...]] = {
    # hcomm 2026-08, src/framework (env_config.cc, coll_comm), beside its documentation
    "HCCL": (
        "HCCL_ALGORITHM",
        "HCCL_ALG_TYPE",
        "HCCL_CCU_CUSTOM_OP_MODE",
        "HCCL_DETOUR",
        "HCCL_HB_THRESHOLD",
        "HCCL_HIGH_PERF_ENABLE",
        "HCCL_INDEPENDENT_OP",
        "HCCL_IODIE_NUM",
        "HCCL_LL_THRESHOLD",
        "HCCL_MEM_SAMPLER_PARAM",
        "HCCL_NET_NAME",
        "HCCL_NPU_NET_PROTOCOL",
        "HCCL_OP_BASE_FFTS_MODE_ENABLE",
        "HCCL_OP_COUNTER_ENABLE",
        "HCCL_P2P_DISABLE",
        "HCCL_TOPO_4P4K",
        # hccl 2026-08, src/common and src/ops
        "HCCL_BIRS_ENABLE",
        "HCCL_TUNER_CONFIG_FILE",
        "HCCL_TUNER_PLUGIN",
        "HCCL_USE_NEW_SELECTOR",
        # documentation of CANN 6.0 (tfmigr1), of 8.1 and 8.2 (envref_07_0084), of master (2026)
        "HCCL_CONCURRENT_ENABLE",
        "HCCL_HOST_RDMA_ENABLE",
        "HCCL_UBOE_TIMEOUT",
        "HCCL_UB_TIMEOUT",
    ),
    # torch_npu 9e73e708a: OptionsManager.cpp and ProcessGroupHCCL.hpp; docs of its versions 6.0 to 7.3
    "torch_npu": (
        "HCCL_ASYNC_ERROR_HANDLING",
        "HCCL_BLOCKING_WAIT",
        "HCCL_DESYNC_DEBUG",
        "HCCL_EVENT_TIMEOUT",
    ),
    # vllm_ascend/envs.py
    "vllm-ascend": ("HCCL_SO_PATH",),
}
# (PCIE, ROCE) as HCCL's documentation lists them; "" is unset.
_LEGAL_PAIRS = {("", ""), ("1", ""), ("1", "0"), ("0", "1"), ("", "1"), ("0", "0")}


def findings(env: Mapping[str, str], chip: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (error or note, variable, what is wrong); an empty value counts as unset."""
    for name in sorted(env):
        if not name.startswith(("HCCL_", "HCOMM_")) or not env[name]:
            continue
        if name not in RULES:
            if not any(name in names for names in READ_ELSEWHERE.values()):
                yield NOTE, name, _unknown(name)
            continue
        rule = RULES[name]
        if rule:
            yield from refused(env, name, rule)
    yield from _together(env, chip)
    yield from _exec_timeout(env, chip)
    problem = visible_devices(env.get(RT_VISIBLE, ""))
    if problem:
        yield ERROR, RT_VISIBLE, problem


def visible_devices(text: str) -> str:
    """Say why the runtime would refuse a list of devices (EE1001) or stop in it; "" for a good or empty one.

    Logical ids without blanks, each above the one before it: envref_07_0028 of CANN's documentation.
    """
    tokens = text.split(",") if text else []
    good = [int(token) for token in tokens if re.match(r"[0-9]{1,5}\Z", token)]
    if len(good) == len(tokens) and good == sorted(set(good)):
        return ""
    words = sorted({int(token) for token in re.findall(r"[0-9]{1,5}", text)})
    return (
        f"{text!r}: CANN takes ascending ids alone, else it fails (EE1001); give {','.join(map(str, words))}"
    )


def _exec_timeout(env: Mapping[str, str], chip: str) -> Iterator[tuple[str, str, str]]:
    """Name a wait that is not as long as it reads: envref_07_0078 of CANN 9.0 has the times."""
    name, mode = "HCCL_EXEC_TIMEOUT", env.get("HCCL_OP_EXPANSION_MODE", "")
    value = env.get(name, "")
    if not re.match(r"\d+(\.\d*)?\Z", value) or chip == "910A":
        return
    if "AIV" in mode and not 0 < float(value) <= MOST_AIV:
        yield NOTE, name, f"{value} means {MOST_AIV} s with HCCL_OP_EXPANSION_MODE={mode}"
    elif float(value) == 0:
        what = f"0 means never on A2 and A3 alone, and {MOST_AIV} s where collectives run on AIV cores"
        yield NOTE, name, f"{what}; a lost rank is then found by hang_timeout or the framework's own time-out"


def _unknown(name: str) -> str:
    """Suggest a known name that differs by a slip, or by words at an end that only one name has."""
    import difflib  # costs more than a start without mistakes should pay

    family, _, own = name.partition("_")
    every = [other for names in (RULES, *READ_ELSEWHERE.values()) for other in names]
    known = [other.partition("_")[2] for other in every if other.startswith(family + "_")]
    longer = [rest for rest in known if rest.startswith(own + "_") or rest.endswith("_" + own)]
    near = longer or difflib.get_close_matches(own, known, n=1, cutoff=0.8)
    if len(near) == 1:
        return f"did you mean {family}_{near[0]}?"
    return "not known as a variable of HCCL, which then ignores it"


def _together(env: Mapping[str, str], chip: str) -> Iterator[tuple[str, str, str]]:
    pair = (env.get("HCCL_INTRA_PCIE_ENABLE", ""), env.get("HCCL_INTRA_ROCE_ENABLE", ""))
    if pair not in _LEGAL_PAIRS:
        pcie, roce = (value or "unset" for value in pair)
        problem = f"{pcie} with HCCL_INTRA_ROCE_ENABLE {roce} (expected 1 and 0, or 0 and 1, or neither)"
        yield ERROR, "HCCL_INTRA_PCIE_ENABLE", problem
    if env.get("HCCL_WHITELIST_DISABLE") == "0" and not env.get("HCCL_WHITELIST_FILE"):
        yield ERROR, "HCCL_WHITELIST_FILE", "missing, but required by HCCL_WHITELIST_DISABLE=0"
    if chip == "910A":
        yield from _only_910a(env)


def _only_910a(env: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    value = env.get("HCCL_EXEC_TIMEOUT", "")
    if value.isdigit() and not 0 < int(value) <= 17340:
        yield (
            ERROR,
            "HCCL_EXEC_TIMEOUT",
            f"{value!r}: invalid value (expected on 910A: a whole number from 1 to 17340)",
        )
    elif value.isdigit() and int(value) % 68:
        used = max(68, int(value) // 68 * 68)
        yield NOTE, "HCCL_EXEC_TIMEOUT", f"910A counts in steps of 68 s: {value} means {used}"
    for name in ("HCCL_HOST_SOCKET_PORT_RANGE", "HCCL_NPU_SOCKET_PORT_RANGE"):
        if env.get(name):
            yield NOTE, name, "910A ignores it"
