"""The meaning of HCCL's and CANN's error codes, and what to do, one line each.

Sources of the meanings:
EI, EJ: error_code.cc of cann/hcomm and the HCCL documentation;
EE, EL, EH, EZ, E3: error_code.json of CANN's error manager (cann/runtime, src/dfx/error_manager); it has no
text for codes that end in 9999, an error inside the module that the letters before name;
six digits: "aclError" in CANN's documentation of AscendCL (ACL_ERROR_RT_* of rt_error_codes.h);
161, 361, 561 and three digits: "aclnn return codes" in CANN's documentation of its operators;
one or two digits behind a function of HCCL: HcclResult of hccl_types.h, as torch_npu prints it;
ERR and five digits: "Error Code Information" in torch_npu's documentation, NPUException.h, _error_code.py.
The advice comes from there and from threads of users who met the code.
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
_HCCL_PORTS = (
    "HCCL listens on 60000 to 60031 of the host (HCCL_IF_BASE_PORT) and on 16666 of a device "
    "(HCCL_NPU_SOCKET_PORT_RANGE=auto lets several processes share it); `ss -tlnp` names the holder"
)
_WAIT = "wait 10 s after the last run; `npu-launch ps` and `npu-smi info` name what still holds the device"
_KERNELS = (
    "install the kernels (ops package) of this CANN and this chip; " + "`npu-launch doctor` shows versions"
)
_OPERATOR = "plog names the operator: `npu-launch logs --errors`"
_LINES_ABOVE = "the cause stands in the lines above or below it, and in plog: `npu-launch logs --errors`"
DEVICE_MEMORY = "use a smaller batch or sequence; `npu-smi info` shows what else uses the device"
_HOST_MEMORY = "see `free -h` and the limit of the container; fewer workers or ranks need less"
_INSTALLATION = "driver, firmware and CANN must be from one release: `npu-launch doctor`"
_HARDWARE = "`npu-smi info -t health -i N`, `npu-smi info -t ecc -i N`, dmesg; restart the device if it stays"
_FEWER = "use fewer process groups, streams or graphs, or end other programs on the device: `npu-smi info`"
_INTERRUPTED = "suspect the rank that does NOT report this; look for the first error of all ranks"
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
    "EJ0002": (
        "the network port of a device is down",
        "`hccn_tool -i N -link -g` must say UP; check the cable",
    ),
    "EJ0003": ("an address or port that HCCL needs is already in use (bind failed)", _HCCL_PORTS),
    "EJ0004": (
        "the address of a device is invalid",
        "compare `hccn_tool -i N -ip -g` with device_ip of the rank table",
    ),
    "E39007": ("the helper process of the device did not start in time", _WAIT),
    "E30003": ("too many processes use the device", _WAIT),
    "E30005": ("the device cannot be reached (no heartbeat)", _HARDWARE),
    "E30006": (
        "the operator package (OPP) did not pass its check",
        "driver, CANN and TF adapter must be from one release: `npu-launch doctor`",
    ),
    "E30008": (
        "an operator on the device's CPU ran too long",
        "often GetNext: the input data came too late; see what the host does",
    ),
    "E39999": ("an error inside CANN's AI CPU software", _LINES_ABOVE),
    "E19999": ("an error inside CANN's graph engine (GE)", _LINES_ABOVE),
    "EE1001": (
        "the CANN runtime refused an argument",
        "the reason follows it; ASCEND_RT_VISIBLE_DEVICES must hold existing ids in ascending order",
    ),
    "EE1002": ("the tasks of a stream did not end in time", _INTERRUPTED),
    "EE1013": ("the host is out of memory", _HOST_MEMORY),
    "EE1015": ("the driver is too old for this CANN", _INSTALLATION),
    "EE1024": (
        "an operator on the device's CPU timed out, and the device had run out of memory",
        DEVICE_MEMORY,
    ),
    "EE2002": ("an environment variable has a value that CANN refuses", "correct the variable that it names"),
    "EE9999": ("an error inside the CANN runtime", _LINES_ABOVE),
    "EF9999": ("an error inside CANN's fusion of operators", _LINES_ABOVE),
    "EH0010": ("the host is out of memory", _HOST_MEMORY),
    "EH9999": ("an error inside AscendCL", _LINES_ABOVE),
    "EI9999": ("an error inside HCCL", _LINES_ABOVE),
    "EJ9999": ("an error inside HCCP", _LINES_ABOVE),
    "EK9999": ("an error inside CANN's profiling", _LINES_ABOVE),
    "EL0001": ("the device does not exist or is faulty", _HARDWARE),
    "EL0002": ("the id of a device is invalid", "`npu-launch inventory` lists the ids of this host"),
    "EL0003": ("the driver refused an argument", _LINES_ABOVE),
    "EL0004": ("the device is out of memory: what was asked for could not be had", DEVICE_MEMORY),
    "EL0005": ("the device is busy or is being reset", _WAIT),
    "EL0006": ("the device is out of a resource", "end other programs on the device: `npu-smi info`"),
    "EL0007": (
        "no permission to use the device",
        "be in the group HwHiAiUser; another container or process may hold it: `npu-smi info`",
    ),
    "EL0015": ("the device belongs to another container", "`npu-smi info`; end the container that has it"),
    "EL9999": ("an error inside the driver", _LINES_ABOVE),
    "EZ1001": ("an operator refused a parameter", "the message names it: mostly a shape or a data type"),
    "EZ3002": ("the operators of this CANN do not hold one that the program uses", _INSTALLATION),
    "EZ3003": ("no operator of this CANN fits what the program asks for", _INSTALLATION),
    "EZ9903": ("an operator failed while it ran", _OPERATOR),
    "EZ9999": ("an error inside an operator", _LINES_ABOVE),
    "107000": ("a call of AscendCL got an invalid parameter", _LINES_ABOVE),
    "107001": (
        "the id of a device is invalid",
        "ranks use logical ids, 0 to the number of visible devices: see ASCEND_RT_VISIBLE_DEVICES",
    ),
    "107002": (
        "a thread has no context of a device",
        "call torch.npu.set_device in that thread or process too, and start workers with spawn, not fork; "
        "where another error stands above, that one is the cause",
    ),
    "107003": (
        "a stream belongs to another context",
        "the program changed the device between the making and the use of a stream or an event",
    ),
    "107017": (
        "a handle (stream, event, memory) is invalid",
        "it was destroyed before its use; " + _LINES_ABOVE,
    ),
    "107019": ("a wait for the device took too long", _INTERRUPTED),
    "107020": ("a task on the device took too long, mostly a collective", _INTERRUPTED),
    "107022": ("the tasks of the device were stopped (FORCE STOP)", "see the first error of the other ranks"),
    "107023": ("a stream was stopped", "see the first error of this rank and of the others"),
    "161001": ("an operator got no tensor where it needs one (null pointer)", "see the traceback"),
    "161002": (
        "an operator refused a parameter",
        "the lines below it name the parameter: mostly a shape, a data type or a tensor of another device",
    ),
    "207000": (
        "driver or firmware lack a function that CANN uses",
        _INSTALLATION,
    ),
    "207001": ("the device is out of memory", DEVICE_MEMORY),
    "207003": (
        "an operator overflowed",
        "look for inf and nan; a lower loss scale or learning rate may help",
    ),
    "207004": ("the device cannot be used", _HARDWARE),
    "207005": ("the device is out of a resource, mostly memory", DEVICE_MEMORY),
    "207006": (
        "no permission to use the device",
        "be root or in the group HwHiAiUser: `id`, `ls -l /dev/davinci*`",
    ),
    "207007": ("the device has no more events", _FEWER),
    "207008": ("the device has no more streams", _FEWER),
    "207009": ("the device has no more notify registers", _FEWER),
    "207010": ("the device has no more models", _FEWER),
    "207011": ("the CANN runtime is out of a resource", _FEWER),
    "207018": ("the device is out of memory", DEVICE_MEMORY),
    "361001": ("an operator could not use the CANN runtime", _LINES_ABOVE),
    "507000": ("an error inside the CANN runtime", _LINES_ABOVE),
    "507001": ("an error inside the device's task scheduler", _HARDWARE),
    "507010": ("the device's task scheduler gives no sign of life (lost heartbeat)", _HARDWARE),
    "507011": ("the model failed while it ran", _LINES_ABOVE),
    "507012": ("the device's task scheduler did not answer in time", _HARDWARE),
    "507013": ("a copy by the device failed (system DMA)", _HARDWARE),
    "507014": ("an operator ran too long on the device (AI Core timeout)", _OPERATOR),
    "507015": ("an operator failed on the device (AI Core exception)", _OPERATOR),
    "507016": ("an operator stopped itself on the device (AI Core trap)", _OPERATOR),
    "507017": ("an operator ran too long on the device's CPU (AI CPU timeout)", _OPERATOR),
    "507018": ("an operator failed on the device's CPU (AI CPU exception)", _OPERATOR),
    "507022": ("processes could not share memory of the device (IPC)", _LINES_ABOVE),
    "507033": (
        "the device cannot be opened",
        "check that no process holds it and that driver and CANN match: `npu-launch doctor`",
    ),
    "507034": ("an operator ran too long on the device (vector core timeout)", _OPERATOR),
    "507035": ("an operator failed on the device (vector core exception)", _OPERATOR),
    "507036": ("an operator stopped itself on the device (vector core trap)", _OPERATOR),
    "507042": ("an operator read beyond its memory on the device (AI Core)", _OPERATOR),
    "507043": ("an operator wrote beyond its memory on the device (AI Core)", _OPERATOR),
    "507044": ("an operator read beyond its memory on the device (vector core)", _OPERATOR),
    "507045": ("an operator wrote beyond its memory on the device (vector core)", _OPERATOR),
    "507046": ("the tasks of a stream did not end in the time that the program gave them", _INTERRUPTED),
    "507047": ("an event did not come in the time that the program gave it", _INTERRUPTED),
    "507048": ("a task inside the device ran too long", _INTERRUPTED),
    "507049": ("a task inside the device failed", _OPERATOR),
    "507050": ("a task inside the device stopped itself", _OPERATOR),
    "507051": ("data could not be sent to the device's queue", _LINES_ABOVE),
    "507052": ("data could not be copied to the device's queue", _LINES_ABOVE),
    "507053": ("the device's memory has an error that it cannot correct (UCE)", _HARDWARE),
    "507054": ("the device's memory has an error of several bits (ECC)", _HARDWARE),
    "507055": ("the memory of another device may be faulty", "see the first error of the other ranks"),
    "507056": ("the link between two devices broke", _NETWORK),
    "507057": ("another device failed, or this one went beyond its memory", _INTERRUPTED),
    "507899": ("an error inside the driver", _INSTALLATION),
    "507900": ("an error inside the software of the device's CPU (AI CPU)", _LINES_ABOVE),
    "507901": ("the connection between host and device closed", _HARDWARE),
    "507902": ("the device's CPU could not schedule a task", _LINES_ABOVE),
    "507904": ("HCCL repeated a collective in vain after a fault of the network", _NETWORK),
    "561001": ("an operator could not derive the shape of its result", "see the shapes of its arguments"),
    "561002": (
        "an operator could not divide its work (tiling)",
        "see the shapes of its arguments; " + _OPERATOR,
    ),
    "561003": ("no kernel of an operator was found", _KERNELS),
    "561103": ("an operator of CANN failed before it ran", _LINES_ABOVE),
    "561107": ("ASCEND_OPP_PATH is not set", "`source set_env.sh` of the toolkit before the start"),
    "561112": ("the kernels of CANN's operators could not be loaded", _KERNELS),
    "EADDRINUSE": (
        "a port is already in use",
        "`ss -tlnp` names the holder; torch's is MASTER_PORT, a free one unless env sets it",
    ),
    "NPU out of memory": ("a device has no memory left for what the program asked for", DEVICE_MEMORY),
    "ASCEND_LAUNCH_BLOCKING": (
        "operators run behind the program, so the traceback may name a wrong line",
        "run once with `env.ASCEND_LAUNCH_BLOCKING=1` to see the right one",
    ),
}

_HCCL_RESULTS: dict[str, tuple[str, str]] = {
    "1": ("an invalid parameter", "all ranks must pass the same; " + _LINES_ABOVE),
    "2": ("a null pointer", _LINES_ABOVE),
    "3": ("no memory", DEVICE_MEMORY),
    "4": ("an internal error", _LINES_ABOVE),
    "5": ("not supported", "see which operation and data type this chip and CANN support"),
    "6": ("something was not found, mostly another rank", _INTERRUPTED),
    "7": ("a resource is not available, mostly a port", _SAME_PORTS),
    "8": ("a call of the system failed", _LINES_ABOVE),
    "9": ("a timeout: another rank did not come", _INTERRUPTED),
    "10": ("a file cannot be opened", "see that RANK_TABLE_FILE exists and can be read; " + _LINES_ABOVE),
    "11": ("no TCP connection to another rank", _INTERRUPTED),
    "12": ("no RoCE connection to another rank", _NETWORK),
    "13": ("a transfer by TCP failed", _INTERRUPTED),
    "14": ("a transfer by RoCE failed", _NETWORK),
    "15": ("a call of the CANN runtime failed", _LINES_ABOVE),
    "16": ("a call of the driver failed", _LINES_ABOVE),
    "17": ("a call of the profiler failed", _LINES_ABOVE),
    "18": ("a call of CCE failed", _LINES_ABOVE),
    "19": ("a call of the network failed", _NETWORK),
    "20": ("a try that must be repeated", _LINES_ABOVE),
    "21": ("an access to another device ended with an error (CQE)", _INTERRUPTED),
    "22": ("the communicator was suspended", _INTERRUPTED),
    "23": ("an operation failed when it was tried again, too", _INTERRUPTED),
    "24": ("no memory on the device", DEVICE_MEMORY),
}
_HCCL_RESULT = re.compile(r"\b[Hh]ccl[A-Z]\w+(?:\([^\n]{0,300}?\))?,? error code is (\d{1,2})\b")
_HCCL_CODE = "HCCL error code "

# torch_npu: ERR, two digits of its module, three of the kind of error.
_TORCH_MODULES = {
    "00": "torch_npu",
    "01": "its operators",
    "02": "distributed",
    "03": "graph",
    "04": "profiler",
    "99": "unknown module",
}
_TORCH_KINDS: dict[str, tuple[str, str]] = {
    "001": ("an invalid parameter", "correct the call that the traceback shows"),
    "002": ("a wrong type", "correct the call that the traceback shows"),
    "003": ("an invalid value", "correct the call that the traceback shows"),
    "004": ("an invalid pointer", _LINES_ABOVE),
    "005": ("an internal error", _LINES_ABOVE),
    "006": ("a memory error", DEVICE_MEMORY),
    "007": ("a feature that is not supported", "the message names it"),
    "008": ("something was not found", "the message names it"),
    "009": ("a resource is not available", _LINES_ABOVE),
    "010": ("a call of the system failed", _LINES_ABOVE),
    "011": ("a timeout", _INTERRUPTED),
    "012": ("no permission", "the message names the file"),
    "100": ("a call of AscendCL failed", _LINES_ABOVE),
    "200": ("a call of HCCL failed", _LINES_ABOVE),
    "300": ("a call of the graph engine failed", _LINES_ABOVE),
    "999": ("the program raised an exception of its own", "see its traceback"),
}

# Old releases print the sentence without the code.
_SENTENCES: tuple[tuple[str, str], ...] = (
    ("last training process is running", "EJ0001"),
    ("getting socket times out", "EI0006"),
    ("wait socket establish timeout", "EI0006"),
    ("notify wait timeout", "EI0002"),
    ("the ranktable or rank is invalid", "EI0004"),
    ("npu out of memory", "NPU out of memory"),
    ("eaddrinuse", "EADDRINUSE"),
    ("errno: 98 - address already in use", "EADDRINUSE"),
    ("the operator is called asynchronously", "ASCEND_LAUNCH_BLOCKING"),
)
_PATTERN = re.compile(
    r"(?<![0-9A-Za-z])(E[A-Z0-9][0-9]{4}|ERR[0-9]{5}|[125]07[0-9]{3}|[135]61[0-9]{3})(?![0-9A-Za-z])"
)
# Six digits may be any number; they are a code where their line speaks of an error.
_SPEAKS_OF_ERRORS = re.compile(r"(?i)err|ret|code|fail|result|reason|acl|npu|\brt[A-Z]")


def explain(text: str) -> list[Explanation]:
    """List the known codes in a text, in their order, each once."""
    places = [(match.start(), match.group(1)) for match in _PATTERN.finditer(text) if _is_code(text, match)]
    lower = text.lower()
    places += [(lower.index(words), code) for words, code in _SENTENCES if words in lower]
    places += [(match.start(), _HCCL_CODE + match.group(1)) for match in _HCCL_RESULT.finditer(text)]
    found = dict.fromkeys(code for _, code in sorted(places))
    return [Explanation(code, *meant) for code, meant in ((c, _meaning(c)) for c in found) if meant]


def _is_code(text: str, match: re.Match[str]) -> bool:
    if match.group(1).startswith("E"):
        return True
    begin = text.rfind("\n", 0, match.start()) + 1
    line = (
        text[max(begin, match.start() - 200) : match.start()]
        + text[match.end() : match.end() + 200].partition("\n")[0]
    )
    return bool(_SPEAKS_OF_ERRORS.search(line))


def _meaning(code: str) -> tuple[str, str] | None:
    if code.startswith(_HCCL_CODE):
        return _HCCL_RESULTS.get(code[len(_HCCL_CODE) :])
    if code in _CODES or not code.startswith("ERR"):
        return _CODES.get(code)
    module, kind = _TORCH_MODULES.get(code[3:5]), _TORCH_KINDS.get(code[5:])
    return (f"{kind[0]} (torch_npu, {module})", kind[1]) if module and kind else None
