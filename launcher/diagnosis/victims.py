"""Ranks that failed because another one did not take part: how their last error reads.

Loaded at the first failure, as compiling the patterns takes longer than the rest of the package.
"""

from __future__ import annotations

import ast
import re
import signal
from contextlib import suppress
from typing import Iterator, Pattern

from launcher.diagnosis import last_words, memory_words
from launcher.diagnosis.failure import ErrorRecord, RankEnd

_LATE = r"(?:timed? ?out|timeout|not (?:arrive|come)|gave up waiting|deadline exceeded)"
_COLLECTIVE = (
    r"collective|all_?_?reduce|all_?gather|reduce_?scatter|all_?to_?all|barrier|broadcast|hccl|nccl|gloo|"
    r"rendezvous|c10d|TCPStore|store->get|process group"
)
_TOGETHER = rf"(?:{_COLLECTIVE}|\bpeer\b|notify)"
# HCCL: EI0002, EI0006, EI0015, and the codes of HcclResult for what another rank did not do (hccl_types.h:
# 6 not found, 9 timeout, 11 to 14 connections, 19 network, 21 remote); AscendCL's 107020, for which torch_npu
# delays a rank's exit, and 507057. torch: c10d's TCPStore, ProcessGroupNCCL and ProcessGroupGloo, torch_npu's
# ProcessGroupHCCL, gloo's transport/tcp. MindSpore: ccsrc/distributed, a worker without its scheduler or the
# others. Paddle: phi/core/distributed/store. TensorFlow: collectives and gRPC. MPI: Open MPI 4, MPICH 3.
_WAITED = re.compile(
    rf"(?is){_LATE}.{{0,300}}?{_TOGETHER}|{_TOGETHER}.{{0,300}}?{_LATE}|"
    r"\brank.{0,80}?not (?:arrive|come)\b|"
    r"\bEI00(?:02|06|15)\b|ERR02011|waiting for clients|"
    r"[Hh]ccl[A-Z]\w+(?:\([^\n]{0,300}?\))?,? error code is (?:6|9|1[1-49]|21)\b|"
    r"(?:error code(?: is|:)|runtime result =) ?(?:107020|507057)\b|SUSPECT REMOTE ERROR|"
    r"wait timeout after \d+ ?ms|wait timeout for key|Socket Timeout|DistNetworkError|RendezvousTimeoutError|"
    r"RendezvousConnectionError|Collective ops is aborted by|monitoredBarrier|for (?:recv|send) operation to|"
    r"timeout caused pair closure|watchdog detected a dump signal from rank|"
    r"caused the desync|meta server node|in the cluster are not successfully spawned|\btimed? out nodes?\b|"
    r"\bnode: \S+ is timed out|(?:Reduce|Broadcast|Scatter|Gather) wait (?:receiving|sending)\b"
)
_PEER_LOST = re.compile(
    r"(?i)CollectiveError|connection (?:was )?(?:reset|closed|aborted)|socket closed|broken ?pipe|"
    r"peer (?:rank |process )?(?:\d+ )?(?:is |was |has )?(?:gone|lost|died|failed|left|exited)|"
    r"ncclRemoteError|remote process (?:has )?exited|StatusCode\.UNAVAILABLE|\bUnavailableError\b|"
    r"\bUNAVAILABLE: |failed to connect to all addresses|connection refused.{0,200}(?:store|master|rank)|"
    r"TCP (?:receive|send|connect) error"
)
_ENDS_ITSELF = b"Kill this process with SIGTERM."  # MindSpore's cluster/init.cc, after a failed collective
# What looks like a wait for others, but is the rank's own: a port that another program holds.
_OWN = re.compile(r"(?i)EADDRINUSE|address already in use|\bEJ0003\b|\bEI00(?:19|20)\b")
# A device that failed by itself; other ranks then wait for it.
_DEVICE_FAULT = re.compile(
    r"(?i)ai ?core exception|vector core exception|fault kernel_name|\b5070(?:1[456]|3[456]|5[34])\b|"
    r"ECC error"
)
# A server that is no rank: downloads of models and data.
_ELSEWHERE = re.compile(r"HTTPS?ConnectionPool|urllib3|requests\.exceptions|https?://|[Hh]ugging ?[Ff]ace")
# Errors that only say that something failed, or on which line it was noticed.
_VAGUE = re.compile(
    r"(?i)inner error|error code is 507\d{3}|runtime result = 507|ERR\d{5}|NPU function error|"
    r"terminate called|To avoid data inconsistency|main process disappeared|\AEOFError:?\s*\Z|"
    r"call (?:acl|hccl|ge) api failed|stream synchronize failed|double free|corrupted size|free\(\)|"
    r"munmap_chunk|watchdog thread terminated|non-zero exit status|exit(?:ed|s)? (?:with )?(?:code|status)|"
    r"GEOP|\bSystemExit\b|watchdog (?:detected an exception|got stuck)|operations have failed or timed out|"
    r"CPUKernelMod launch failed|FatalError: `Process abort signal`|"
    r"InternalError|Segmentation fault$|\AChildFailedError|\.ChildFailedError"
)
# Exceptions that only say that a process which the rank had started failed: subprocess (of Accelerate and
# DeepSpeed), torch.multiprocessing.spawn (of Lightning), torchelastic.
_WRAPPER = re.compile(r"(?:\A|\.)(?:CalledProcessError|Process(?:Raised|Exited)Exception|ChildFailedError)\Z")
_WRAPPED = re.compile(r"[\w.]*(?:CalledProcessError|Process(?:Raised|Exited)Exception|ChildFailedError)\b")
# What raised is the data set of the program: torch/_utils.py, Paddle's blocking_queue.h and io/dataloader,
# MindSpore's minddata (generator_op.cc and others).
_READER = re.compile(r"Blocking queue is killed because the data reader raises an exception")
_DATA = re.compile(
    rf"\ACaught \w+ in (?:DataLoader worker process|pin memory thread)|\A\W?DataLoader worker\(\d+\) caught |"
    rf"\AException thrown from user defined Python function in dataset|{_READER.pattern}"
)
# Whom a rank waited for, as it says: npu-launch's collectives; ProcessGroupGloo's monitored barrier, c10d's
# TraceUtils.h (desync), torchelastic's barrier, NCCL's and HCCL's id from rank 0; MindSpore's msrun, its
# scheduler and ms_collective_comm_lib.cc; Paddle's gloo; HCCL's EI0002.
_ACCUSED = re.compile(
    r"(?i)ranks? ([\d, ]+) (?:did not (?:come|arrive)|failed to pass monitoredBarrier)|"
    r"ranks \[([\d, ]+)\] are the lagging|\[([\d, ]+)\] finished collective #\d+, but didn't join|"
    r"check (?:root )?rank:? (\d+)(?:'s log| logs)|missing_ranks=\[?([\d, ]+)|"
    r"retrieving \w+UniqueId from \[(\d+)\]|remote rank:? ?\[(\d+)\]|"
    r"TIMEOUT self_rank = \d+ pair_rank = (\d+)|\bnode: (\d+) is timed out|"
    r"time out nodes are \[([\d', ]+)\]|timed out node list is: (?:\[const vector\])?[\[{]([\d, ]+)[\]}]"
)
# Whose heartbeat HCCL missed, behind its EI0002: the device of a server.
_ACCUSED_DEVICE = re.compile(
    r"Cluster Exception Location\[IP/ID\]:\[[^\]]*/(\d+)\]|deviceId\[(\d+)\], Heartbeat Lost"
)
_MPI_ABORT = re.compile(r"MPI_ABORT was invoked on rank (\d+)|MPI_Abort\(.{0,80}process (\d+)")


def waits_for_others(end: RankEnd) -> bool:
    """Tell whether a rank's last error is a timeout or a lost connection caused by another rank.

    A signal is the rank's own failure, but for the one with which a watchdog ends a rank that waits, and one
    that came after the exception that had ended the program.
    """
    raised = end.error is not None and end.error.kind != "SystemExit"
    by_watchdog = end.signal == signal.SIGABRT or (end.signal == signal.SIGTERM and _ENDS_ITSELF in end.tail)
    if (end.signal and not by_watchdog and not raised) or not (end.code or end.error):
        return False
    return waits(deciding_words(end), end.rank)


def timed_out(end: RankEnd) -> bool:
    """Tell whether a rank that waited did so until its own time was over."""
    return bool(re.search(rf"(?i){_LATE}", deciding_words(end)))


def was_left_alone(end: RankEnd) -> bool:
    """Tell whether a rank that waited did so in a collective or as it joined: for ranks, not for a server."""
    return bool(re.search(rf"(?i){_COLLECTIVE}|clients joined|meta server node", deciding_words(end)))


def inner_error(end: RankEnd) -> str:
    """Return what a process that the rank had started wrote of its error; "" where the rank's own says it."""
    if end.error is None or not _WRAPPER.search(end.error.kind):
        return ""
    traceback = end.error.traceback.encode("utf-8", "backslashreplace")
    found = [*last_words.errors(traceback), *last_words.errors(end.tail)]
    lines = [failure.text.split("\n")[0] for failure in found]
    return next((line for line in lines if not _VAGUE.search(line) and not _WRAPPED.match(line)), "")


def shown_error(end: RankEnd) -> ErrorRecord | None:
    """Return the error that tells most: of Paddle's reading thread, where the main one only noticed it."""
    if end.error and end.thread_error and _READER.search(end.error.message):
        return end.thread_error
    return end.error or end.thread_error


def data_error(end: RankEnd) -> str:
    """Return what the program's data set raised, where the rank's own error only carries it; else ""."""
    error = shown_error(end)
    if error is None or not _DATA.search(error.message):
        return ""
    message = error.message
    if error.kind == "KeyError":  # whose text is the repr of its message
        with suppress(ValueError, SyntaxError):
            message = str(ast.literal_eval(message))
    found = last_words.errors(message.encode("utf-8", "backslashreplace"))
    lines = [failure.text.split("\n")[0] for failure in found]
    return next((line for line in lines if not line.startswith("[ERROR]")), "")


def deciding_words(end: RankEnd) -> str:
    """Return what a rank wrote about its end: its deciding error, or else its last lines."""
    return deciding_error(end) or last_words.rest(end.tail)


def deciding_error(end: RankEnd) -> str:
    """Return the last error that says more than that something failed; "" where a rank wrote none."""
    vague = ""
    for found in _failures(end):
        if not _VAGUE.search(found) or _is_specific(found, end.rank):
            return found
        vague = vague or found
    return vague


def _failures(end: RankEnd) -> Iterator[str]:
    """Yield the errors of a rank, the last one first: as raised, in its output, in CANN's log."""
    if end.error and end.error.kind != "SystemExit":
        traceback = end.error.traceback.encode("utf-8", "backslashreplace")
        yield f"{end.error.kind}: {end.error.message}\n" + "\n".join(
            found.text for found in last_words.errors(traceback)[:1]
        )
    for found in last_words.errors(end.tail):
        yield found.text
    logged = end.plog.decode("utf-8", "replace").split("\n")
    for pattern in (_DEVICE_FAULT, _WAITED):
        yield from [line for line in logged if "ERROR" in line and pattern.search(line)][-1:]


def _is_specific(text: str, rank: int) -> bool:
    return bool(_DEVICE_FAULT.search(text) or memory_words.shortage_in(text)) or waits(text, rank)


def waits(text: str, rank: int = -1) -> bool:
    """Tell whether an error is a timeout or a lost connection that another rank than this one caused."""
    if _DEVICE_FAULT.search(text) or _OWN.search(text) or memory_words.shortage_in(text):
        return False
    aborted = _MPI_ABORT.search(text)
    if aborted:
        return int(aborted.group(1) or aborted.group(2)) != rank
    if _WAITED.search(text):
        return True
    return bool(_PEER_LOST.search(text)) and not _ELSEWHERE.search(text)


def had_own_error(victim: RankEnd) -> bool:
    """Tell whether a rank that waited in vain did so while it handled an error of its own."""
    output = victim.error.traceback.encode("utf-8", "backslashreplace") if victim.error else victim.tail
    before = "".join(found.before for found in last_words.errors(output)[:1])
    return bool(before) and not waits(before, victim.rank)


def accused_ranks(victim: RankEnd) -> set[int]:
    """Read which other ranks a victim says it waited for."""
    return _numbers(victim, _ACCUSED) - {victim.rank}


def accused_devices(victim: RankEnd) -> set[int]:
    """Read which other devices HCCL says were lost, each on a server that it tells by an address only."""
    return _numbers(victim, _ACCUSED_DEVICE) - {victim.device_id}


def _numbers(victim: RankEnd, pattern: Pattern[str]) -> set[int]:
    groups = (match.groups() for text in _failures(victim) for match in pattern.finditer(text))
    return {int(number) for found in groups for word in found if word for number in re.findall(r"\d+", word)}
