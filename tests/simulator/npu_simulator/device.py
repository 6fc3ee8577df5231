"""The one device of a process: its state, its place among the ranks, and a record of all it was asked for."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import time
from collections import Counter
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from bert.backend.collective import shared_memory

WORLD = "hccl_world_group"
MOST_GROUP_NAME = 127
_REPORT, _DEVICES, _OVERFLOW = "NPU_SIMULATOR_REPORT", "NPU_SIMULATOR_DEVICES", "NPU_SIMULATOR_OVERFLOW"
_DEATH = "NPU_SIMULATOR_DEATH"


class Refused(RuntimeError):
    """Say what the adapter, GE or HCCL would refuse, with HCCL's code where it has one."""


class Device:
    """Hold the state between NPUInit and NPUShutdown."""

    def __init__(self) -> None:
        self.state = "new"  # new -> open -> closed (-> open)
        self.rank, self.size = 0, 1
        self.local_rank, self.local_size = 0, 1
        self.groups: Dict[str, List[int]] = {}
        self.calls: Counter = Counter()
        self.loops: List[int] = []  # steps of each call that ran the training loop
        self.readings = 0  # of the overflow flag
        self.steps = 0
        self.parameters: Dict[str, Any] = {}
        self.fused: Dict[str, int] = {}  # collective and fusion id -> bytes
        self._collective: Any = None
        atexit.register(self.report)

    def open(self, parameters: Mapping[str, Any]) -> None:
        """Initialise GE and, where a cluster is described, HCCL: all ranks meet here."""
        if self.state == "open":
            raise Refused("GE is initialised already; initialize_system is for once")
        check_environment(os.environ)
        self._find_place(os.environ)
        attempt = os.environ.get("NPU_LAUNCH_ATTEMPT", "0")
        name = "simulator-%s-%s-%d" % (os.environ["JOB_ID"], attempt, self.calls["initialize_system"])
        self._collective = shared_memory.connect(name, self.rank, self.size, _timeout(os.environ))
        _forget_meeting(os.environ)
        self.state, self.parameters = "open", dict(parameters)
        self.groups = {WORLD: list(range(self.size))}
        self.agree("options", {"precision_mode": parameters.get("precision_mode"), "table": _table_hash()})

    def close(self) -> None:
        """Shut HCCL and GE down."""
        if self.state != "open":
            raise Refused("shutdown_system without a system")
        self.state = "closed"
        self.report()

    def need(self, what: str) -> None:
        """Refuse what needs an open device."""
        if self.state != "open":
            raise Refused("%s while HCCL is %s: run npu_ops.initialize_system() first" % (what, self.state))

    def need_group(self, group: str) -> List[int]:
        """Give a group's ranks."""
        if len(group) > MOST_GROUP_NAME:
            raise Refused("EI0003: group name of %d characters; at most %d" % (len(group), MOST_GROUP_NAME))
        if group not in self.groups:
            raise Refused("EI0003: no group %r; there are %s" % (group, sorted(self.groups) or "none"))
        return self.groups[group]

    def agree(self, what: str, mine: Any) -> None:
        """Compare a JSON value over the ranks, as HCCL does with the tags of its operations."""
        mine = json.loads(json.dumps(mine))
        every = self._collective.all_gather([what, mine])
        for rank, theirs in enumerate(every):
            if theirs != [what, mine]:
                raise Refused(
                    "EI0005: arguments differ between ranks: rank %d has %s, rank %d has %s"
                    % (self.rank, [what, mine], rank, theirs)
                )

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Collect an array of every rank: [size, ...]."""
        every = np.zeros((self.size, *array.shape), array.dtype)
        every[self.rank] = array
        return self._collective.all_reduce_sum(every)

    def overflowed(self) -> bool:
        """Read the overflow flag; NPU_SIMULATOR_OVERFLOW=rank:reading,... says when it is up, from 1."""
        self.readings += 1
        return "%d:%d" % (self.rank, self.readings) in os.environ.get(_OVERFLOW, "").split(",")

    def step(self) -> None:
        """Begin a training step; in the first attempt die in it if NPU_SIMULATOR_DEATH=rank:step says so."""
        self.steps += 1
        first = os.environ.get("NPU_LAUNCH_ATTEMPT", "0") == "0"
        if first and os.environ.get(_DEATH) == "%d:%d" % (self.rank, self.steps):
            os.kill(os.getpid(), signal.SIGKILL)

    def report(self) -> None:
        """Write what was asked for into the folder NPU_SIMULATOR_REPORT, one file a rank."""
        folder = os.environ.get(_REPORT)
        if not folder or not self.calls:
            return
        record = {
            "rank": self.rank, "size": self.size, "state": self.state, "calls": dict(self.calls),
            "loops": self.loops, "parameters": self.parameters, "fused": self.fused,
        }  # fmt: skip
        with open(os.path.join(folder, "rank_%d.json" % self.rank), "w", encoding="utf-8") as stream:
            json.dump(record, stream)

    def _find_place(self, environ: Mapping[str, str]) -> None:
        if environ.get("CM_CHIEF_IP"):
            self.size = int(environ["CM_WORKER_SIZE"])
            self.rank = _meet(environ, self.size)
            self.local_rank, self.local_size = self.rank, self.size
        elif environ.get("RANK_TABLE_FILE"):
            self._read_table(environ)

    def _read_table(self, environ: Mapping[str, str]) -> None:
        table = check_table(environ)
        self.rank, self.size = int(environ["RANK_ID"]), table.world_size
        if environ["RANK_SIZE"] != str(self.size):
            raise Refused("RANK_SIZE %s, but the table has %d ranks" % (environ["RANK_SIZE"], self.size))
        mine = table.by_rank(self.rank)
        mates = [rank.rank_id for rank in table.ranks_of(mine.server_id)]
        self.local_rank, self.local_size = mates.index(self.rank), len(mates)


def check_environment(environ: Mapping[str, str]) -> None:
    """Refuse environments that the adapter refuses, or on which every process would train alone."""
    if not environ.get("JOB_ID"):
        raise Refused("Load job info failed: JOB_ID is not set")
    if not environ.get("ASCEND_DEVICE_ID", "0").isdigit():
        raise Refused("ASCEND_DEVICE_ID must be a number: %r" % environ["ASCEND_DEVICE_ID"])
    if environ.get("RANK_SIZE") and environ.get("CM_WORKER_SIZE"):
        raise Refused("RANK_SIZE and CM_WORKER_SIZE cannot be configured at the same time")
    if environ.get("RANK_TABLE_FILE") and environ.get("CM_CHIEF_IP"):
        raise Refused("RANK_TABLE_FILE and CM_CHIEF_IP cannot be configured at the same time")
    if environ.get("RANK_TABLE_FILE") and not environ.get("RANK_SIZE"):
        raise Refused("RANK_TABLE_FILE without RANK_SIZE: HCCL would not be used")
    if environ.get("RANK_TABLE_FILE") and environ.get("POD_NAME"):
        raise Refused("POD_NAME wins over RANK_ID, and this table has no pods")
    if environ.get("CM_CHIEF_IP") and not all(
        environ.get(name) for name in ("CM_CHIEF_PORT", "CM_CHIEF_DEVICE", "CM_WORKER_SIZE", "CM_WORKER_IP")
    ):
        raise Refused("CM_CHIEF_IP, CM_CHIEF_PORT, CM_CHIEF_DEVICE, CM_WORKER_SIZE, CM_WORKER_IP: set all")
    if not 120 <= _timeout(environ) <= 7200:
        raise Refused("EI0001: HCCL_CONNECT_TIMEOUT is %g; it must be 120 to 7200" % _timeout(environ))


def check_table(environ: Mapping[str, str]) -> Any:
    """Read the rank table of a process by the rules of HCCL that rank_table/check.py holds."""
    from rank_table.check import check_file, check_process
    from rank_table.table import RankTable

    path = environ["RANK_TABLE_FILE"]
    try:
        findings = check_file(path)
    except OSError as error:
        raise Refused("EI0004: path %s is not a valid real path: %s" % (path, error.strerror)) from None
    _refuse(findings)
    table = RankTable.load(path)
    _refuse(check_process(table, environ, physical(environ)))
    return table


def _refuse(findings: Sequence[Any]) -> None:
    errors = [str(finding) for finding in findings if finding.level == "error"]
    if errors:
        raise Refused("; ".join(errors))


def physical(environ: Mapping[str, str]) -> int:
    """Give the physical id of ASCEND_DEVICE_ID; NPU_SIMULATOR_DEVICES lists them by logical id."""
    logical = int(environ.get("ASCEND_DEVICE_ID", environ.get("DEVICE_ID", "0")))
    listed = [int(number) for number in environ.get(_DEVICES, "").split(",") if number]
    if listed and logical >= len(listed):
        raise Refused("open device %d failed: this host has %d devices" % (logical, len(listed)))
    return listed[logical] if listed else logical


def _timeout(environ: Mapping[str, str]) -> float:
    return float(environ.get("HCCL_CONNECT_TIMEOUT", "120"))


def _table_hash() -> str:
    path = os.environ.get("RANK_TABLE_FILE", "")
    if not path:
        return ""
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def _meeting(environ: Mapping[str, str]) -> str:
    return "/dev/shm/npu-simulator-%s-%s" % (environ["JOB_ID"], environ.get("CM_CHIEF_PORT", ""))


def _forget_meeting(environ: Mapping[str, str]) -> None:
    """Remove the folder of _meet, once all are connected."""
    shutil.rmtree(_meeting(environ), ignore_errors=True)


def _meet(environ: Mapping[str, str], size: int) -> int:
    """Number the processes of a host by their devices, as the chief does without a rank table."""
    folder = _meeting(environ)
    os.makedirs(folder, exist_ok=True)
    mine = "%05d" % int(environ.get("ASCEND_DEVICE_ID", "0"))
    with open(os.path.join(folder, mine), "x"):
        pass
    end = time.monotonic() + _timeout(environ)
    found: Sequence[str] = ()
    while time.monotonic() < end:
        found = sorted(os.listdir(folder))
        if len(found) == size:
            return found.index(mine)
        time.sleep(0.01)
    raise Refused("EI0006: getting socket timed out: %d of %d workers came" % (len(found), size))


DEVICE = Device()
