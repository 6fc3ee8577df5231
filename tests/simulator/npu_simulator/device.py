"""The one device of a process: GE and HCCL with their state, and a record of all that was asked of them."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from typing import Any, Mapping, Sequence

import numpy as np

from bert.backend.collective import shared_memory
from npu_simulator.refusals import refused

WORLD = "hccl_world_group"
MOST_GROUP_NAME = 127
_REPORT, _DEVICES, _OVERFLOW = "NPU_SIMULATOR_REPORT", "NPU_SIMULATOR_DEVICES", "NPU_SIMULATOR_OVERFLOW"
_DEATH, _LOOPS = "NPU_SIMULATOR_DEATH", "NPU_SIMULATOR_LOOPS"


class Device:
    """The state between NPUInit and NPUShutdown."""

    def __init__(self) -> None:
        # new -> open -> closed; open -> idle when the last session with graphs goes, until the next graph
        self.state = "new"
        self.opened = 0  # times that GE was initialised
        self.sessions: set[Any] = set()  # with graphs in GE
        self.rank, self.size = 0, 1
        self.local_rank, self.local_size = 0, 1
        self.groups: dict[str, list[int]] = {}
        self.calls: Counter = Counter()
        self.loops: list[int] = []  # steps of each call that ran the training loop
        self.readings = 0  # of the overflow flag
        self.steps = 0
        self.late_sessions = 0  # closed when GE was gone
        self.parameters: dict[str, Any] = {}
        self.fused: dict[str, int] = {}  # collective and fusion id -> bytes
        self._collective: Any = None
        atexit.register(self.report)

    def open(self, parameters: Mapping[str, Any]) -> None:
        """Initialise GE and, where a cluster is described, HCCL: all ranks meet. Twice does nothing."""
        if self.state == "open":
            return
        check_environment(os.environ)
        self._find_place(os.environ)
        attempt = os.environ.get("NPU_LAUNCH_ATTEMPT", "0")
        job = os.environ.get("JOB_ID", "none")
        if self.size > 1:
            name = f"simulator-{job}-{attempt}-{self.opened}"
            self._collective = shared_memory.connect(name, self.rank, self.size, _timeout(os.environ))
            _forget_meeting(os.environ)
        self.state, self.parameters = "open", dict(parameters)
        self.opened += 1
        self.groups = {WORLD: list(range(self.size))}
        self.agree("options", {"precision_mode": parameters.get("precision_mode"), "table": _table_hash()})

    def close(self) -> None:
        """Shut HCCL and GE down."""
        self.state = "closed"
        self.report()

    def took_graph(self, session: Any, parameters: Mapping[str, Any]) -> None:
        """Note a session that has a graph in GE; an idle device is initialised again."""
        if self.state == "idle":
            self.open(parameters)
        self.sessions.add(session)

    def lost_session(self, session: Any) -> None:
        """Finalise GE when the last session with graphs is closed."""
        if session not in self.sessions:
            return
        self.sessions.discard(session)
        if self.state == "closed":
            self.late_sessions += 1
        elif not self.sessions and self.state == "open":
            self.state = "idle"
            self.report()

    def need(self, key: str, what: str) -> None:
        """Refuse, by the reason of this key, what needs an open device."""
        if self.state != "open":
            raise refused(key, f"{what} while GE and HCCL are {self.state}: run initialize_system() first")

    def need_group(self, group: str) -> list[int]:
        """Give a group's ranks."""
        if len(group) > MOST_GROUP_NAME:
            raise refused("group", f"group name of {len(group)} characters; at most {MOST_GROUP_NAME}")
        if group not in self.groups:
            raise refused("group", f"no group {group!r}; there are {sorted(self.groups) or 'none'}")
        return self.groups[group]

    def agree(self, what: str, mine: Any) -> None:
        """Compare a JSON value over the ranks, as HCCL does with the tags of its operations."""
        if self.size == 1:
            return
        mine = json.loads(json.dumps(mine))
        every = self._collective.all_gather([what, mine])
        for rank, theirs in enumerate(every):
            if theirs != [what, mine]:
                raise refused(
                    "ranks_differ",
                    f"rank {self.rank} has {[what, mine]}, rank {rank} has {theirs}",
                )

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Collect an array of every rank: [size, ...]."""
        if self.size == 1:
            return array[None]
        every = np.zeros((self.size, *array.shape), array.dtype)
        every[self.rank] = array
        return self._collective.all_reduce_sum(every)

    def overflowed(self) -> bool:
        """Read the overflow flag; NPU_SIMULATOR_OVERFLOW=rank:reading,... says when it is up, from 1."""
        self.readings += 1
        return f"{self.rank}:{self.readings}" in os.environ.get(_OVERFLOW, "").split(",")

    def step(self) -> None:
        """Begin a training step; in the first attempt die in it if NPU_SIMULATOR_DEATH=rank:step says so."""
        self.steps += 1
        first = os.environ.get("NPU_LAUNCH_ATTEMPT", "0") == "0"
        if first and os.environ.get(_DEATH) == f"{self.rank}:{self.steps}":
            os.kill(os.getpid(), signal.SIGKILL)

    def loops_by_itself(self) -> bool:
        """NPU_SIMULATOR_LOOPS=0: a device that makes one step a call, whatever the loop's variable says."""
        return os.environ.get(_LOOPS) != "0"

    def report(self) -> None:
        """Write what was asked for into the folder NPU_SIMULATOR_REPORT, one file a rank."""
        folder = os.environ.get(_REPORT)
        if not folder or not self.calls:
            return
        record = {
            "rank": self.rank, "size": self.size, "state": self.state, "calls": dict(self.calls),
            "loops": self.loops, "parameters": self.parameters, "fused": self.fused,
            "opened": self.opened, "late_sessions": self.late_sessions,
        }  # fmt: skip
        with open(os.path.join(folder, f"rank_{self.rank}.json"), "w", encoding="utf-8") as stream:
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
            raise refused(
                "size_of_another_table",
                f"RANK_SIZE {environ['RANK_SIZE']}, but the table has {self.size} ranks",
            )
        mine = table.by_rank(self.rank)
        mates = [rank.rank_id for rank in table.ranks_of(mine.server_id)]
        self.local_rank, self.local_size = mates.index(self.rank), len(mates)


def check_environment(environ: Mapping[str, str]) -> None:
    """Refuse environments that the adapter refuses, or on which every process would train alone."""
    table, free = environ.get("RANK_TABLE_FILE"), environ.get("CM_CHIEF_IP")
    if not environ.get("JOB_ID"):
        print("can not find Environment variable : JOB_ID", file=sys.stderr, flush=True)  # no more than that
    if not (environ.get("ASCEND_DEVICE_ID") or "0").isdigit():
        raise refused("device_id_is_no_number", f"ASCEND_DEVICE_ID is {environ['ASCEND_DEVICE_ID']!r}")
    if environ.get("RANK_SIZE") and environ.get("CM_WORKER_SIZE"):
        raise refused("both_families", "RANK_SIZE and CM_WORKER_SIZE are both set")
    if table and free:
        raise refused("both_kinds_of_table", "RANK_TABLE_FILE and CM_CHIEF_IP are both set")
    if table and not environ.get("RANK_SIZE"):
        raise refused("table_without_size", "RANK_TABLE_FILE without RANK_SIZE")
    if table and environ.get("POD_NAME"):
        raise refused("pod_name", "POD_NAME is set")
    wanted = ("CM_CHIEF_PORT", "CM_CHIEF_DEVICE", "CM_WORKER_SIZE", "CM_WORKER_IP")
    if free and not all(environ.get(name) for name in wanted):
        raise refused("free_mode_is_incomplete", f"beside CM_CHIEF_IP set {', '.join(wanted)}")
    if not 120 <= _timeout(environ) <= 7200:
        raise refused("connect_timeout", f"HCCL_CONNECT_TIMEOUT is {_timeout(environ):g}, not 120 to 7200")


def check_table(environ: Mapping[str, str]) -> Any:
    """Read the rank table of a process by the rules of HCCL that rank_table/check.py holds."""
    from rank_table.check import check_file, check_process
    from rank_table.table import RankTable

    path = environ["RANK_TABLE_FILE"]
    try:
        findings = check_file(path)
    except OSError as error:
        raise refused("table_is_missing", f"path {path} is not a valid real path: {error.strerror}") from None
    _refuse(findings)
    table = RankTable.load(path)
    _refuse(check_process(table, environ, physical(environ)))
    return table


def _refuse(findings: Sequence[Any]) -> None:
    errors = [str(finding) for finding in findings if finding.level == "error"]
    if errors:
        raise refused("table", "; ".join(errors))


def physical(environ: Mapping[str, str]) -> int:
    """Give the physical id of ASCEND_DEVICE_ID; NPU_SIMULATOR_DEVICES lists them by logical id."""
    logical = int(environ.get("ASCEND_DEVICE_ID") or environ.get("DEVICE_ID") or "0")
    listed = [int(number) for number in environ.get(_DEVICES, "").split(",") if number]
    if listed and logical >= len(listed):
        raise refused(
            "device_is_not_there", f"open device {logical} failed: this host has {len(listed)} devices"
        )
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
    return "/dev/shm/npu-simulator-{}-{}".format(environ["JOB_ID"], environ.get("CM_CHIEF_PORT", ""))


def _forget_meeting(environ: Mapping[str, str]) -> None:
    """Remove the folder of _meet, once all are connected."""
    shutil.rmtree(_meeting(environ), ignore_errors=True)


def _meet(environ: Mapping[str, str], size: int) -> int:
    """Number the processes of a host by their devices, as the chief does without a rank table."""
    folder = _meeting(environ)
    os.makedirs(folder, exist_ok=True)
    mine = f"{int(environ.get('ASCEND_DEVICE_ID', '0')):05d}"
    with open(os.path.join(folder, mine), "x"):
        pass
    end = time.monotonic() + _timeout(environ)
    found: Sequence[str] = ()
    while time.monotonic() < end:
        found = sorted(os.listdir(folder))
        if len(found) == size:
            return found.index(mine)
        time.sleep(0.01)
    raise refused("socket_timeout", f"getting socket timed out: {len(found)} of {size} workers came")


DEVICE = Device()
