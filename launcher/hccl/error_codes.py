"""The meaning of HCCL's and CANN's error codes, and what to do, one line each.

Codes EI and EJ: error_code.cc of cann/hcomm and the HCCL documentation; E3 and six digits: CANN's error code
reference. The advice comes from there and from threads of users who met the code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """A code, its meaning and what to do."""

    code: str
    meaning: str
    what_to_do: str

    def __str__(self) -> str:
        return f"{self.code}: {self.meaning}; {self.what_to_do}"


_SAME_PORTS = "two jobs on one host need different HCCL_IF_BASE_PORT; `ss -tlnp` names the holder"
_WAIT = "wait 10 s after the last run; `npu-launch ps` and `npu-smi info` name what still holds the device"
_OPERATOR = "plog names the operator: `npu-launch logs --errors`"
_NETWORK = "check the ports of both ends: `hccn_tool -i N -link -g`, `-stat -g`, `-optical -g`"

_CODES: dict[str, tuple[str, str]] = {
    "EI0001": (
        "an HCCL_* environment variable has a value that HCCL refuses",
        "correct the variable that the message names",
    ),
    "EI0002": (
        "a rank waited in a collective for another that did not join (notify wait timeout)",
        "suspect the rank that does NOT report this: it died, hung or made fewer steps",
    ),
    "EI0003": (
        "a collective was called with a wrong argument, or RANK_ID is not a number",
        "correct the argument that the message names",
    ),
    "EI0004": (
        "the rank table cannot be read, or does not match the rank",
        "`npu-launch rank-table check FILE`; make it again after devices or addresses have changed",
    ),
    "EI0005": (
        "the ranks called a collective with different arguments",
        "the same graph and the same order of operations must run on every rank",
    ),
    "EI0006": (
        "a rank did not get the connection of another in time (getting socket timed out)",
        "start the ranks together or raise HCCL_CONNECT_TIMEOUT, to the same value on all; "
        "see which rank started last or failed first",
    ),
    "EI0007": ("HCCL is out of a resource that the message names", "a smaller HCCL_BUFFSIZE may help"),
    "EI0008": ("the ranks run different versions of HCCL", "install one CANN version on every host"),
    "EI0009": ("the link between two ranks could not be set up", _NETWORK),
    "EI0010": ("two devices of a host cannot reach each other (P2P)", "`npu-smi info -t topo`; see dmesg"),
    "EI0011": ("the device is out of memory", "use a smaller batch or HCCL_BUFFSIZE; see `npu-smi info`"),
    "EI0012": (
        "a copy between devices failed (SDMA)",
        "check for a memory fault: `npu-smi info -t ecc -i N`",
    ),
    "EI0013": ("the network reported an error to a device (RoCE error CQE)", _NETWORK),
    "EI0014": (
        "a value of the rank table is invalid or differs from the machine",
        "`npu-launch rank-table check FILE`; version 1.0 is for 910A and A2, 1.2 for A3, 2.0 for 950",
    ),
    "EI0015": (
        "the ranks did not find each other (root info)",
        "the chief's address must be reachable from every host; see which rank is missing",
    ),
    "EI0016": (
        "a setting differs between the ranks, often the tls switch",
        "`hccn_tool -i N -tls -g` must be equal on every device of every host",
    ),
    "EI0017": ("an entry is missing from the rank table", "`npu-launch rank-table check FILE`"),
    "EI0018": ("the UB network reported an error to a device", _NETWORK),
    "EI0019": ("HCCL cannot listen on a port of the host", _SAME_PORTS),
    "EI0020": (
        "HCCL cannot listen on a port of the device (16666 unless set)",
        "another process uses this device; HCCL_NPU_SOCKET_PORT_RANGE=auto on A2 and A3",
    ),
    "EJ0001": ("the device is still in use by the last process (HCCP did not start)", _WAIT),
    "EJ0003": ("the address or port of a device is already in use (bind failed)", _SAME_PORTS),
    "E39007": ("the helper process of the device did not start in time", _WAIT),
    "E30006": (
        "the operator package (OPP) did not pass its check",
        "driver, CANN and TF adapter must be from one release: `npu-launch doctor`",
    ),
    "507033": (
        "the device cannot be opened",
        "check that no process holds it and that driver and CANN match: `npu-launch doctor`",
    ),
    "507014": ("an operator ran too long on the device (AI Core timeout)", _OPERATOR),
    "507015": ("an operator failed on the device (AI Core exception)", _OPERATOR),
    "507018": ("an operator failed on the device's CPU (AI CPU exception)", _OPERATOR),
    "207001": (
        "the device is out of memory",
        "use a smaller batch or sequence; see what else uses the device",
    ),
}

# Old releases print the sentence without the code.
_SENTENCES: tuple[tuple[str, str], ...] = (
    ("last training process is running", "EJ0001"),
    ("getting socket times out", "EI0006"),
    ("wait socket establish timeout", "EI0006"),
    ("notify wait timeout", "EI0002"),
    ("the ranktable or rank is invalid", "EI0004"),
)
_PATTERN = re.compile(r"(?<![0-9A-Za-z])(E[A-Z0-9][0-9]{4}|[125]07[0-9]{3})(?![0-9A-Za-z])")


def explain(text: str) -> list[Explanation]:
    """List the known codes in a text, in their order, each once."""
    places = [(match.start(), match.group(1)) for match in _PATTERN.finditer(text)]
    lower = text.lower()
    places += [(lower.index(words), code) for words, code in _SENTENCES if words in lower]
    found = dict.fromkeys(code for _, code in sorted(places) if code in _CODES)
    return [Explanation(code, *_CODES[code]) for code in found]
