"""What a rank wrote last decides whether it failed or waited for another, not the noise of a shutdown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.diagnosis.failure import ErrorRecord, RankEnd, RankStatus
from launcher.diagnosis.verdict import judge
from launcher.diagnosis.victims import (
    accused_ranks,
    data_error,
    deciding_words,
    inner_error,
    shown_error,
    waits_for_others,
)
from launcher.ui.report import cause

TRACE = 'Traceback (most recent call last):\n  File "train.py", line 9, in step\n    run()\n'
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
SOCKET = "EI0006: [PID: 71] 2026-03-01-10:00:20.444 Getting socket times out. Reason: no data in time.\n"
# torch_npu prints the call as its source has it (HCCL_CHECK_ERROR).
ROOT_INFO = "HCCL function error: HcclCommInitRootInfo(numRanks, &rootInfo, rank, &(comm->hcclComm_))"
ALLREDUCE = TRACE + "RuntimeError: OPS function error: HcclAllreduce, error code is 6\n" + SOCKET
NOISES = {
    "nothing": "",
    "warnings": """\
/lib/tempfile.py:8: ResourceWarning: Implicitly cleaning up <TemporaryDirectory '/tmp/a'>
  _warnings.warn(warn_message, ResourceWarning)
"""
    * 500,
    "semaphores": """\
/lib/resource_tracker.py:2: UserWarning: resource_tracker: There appear to be 9 leaked semaphore objects
  warnings.warn('resource_tracker: There appear to be %d '
""",
    "torch_npu": """\
[W compiler_depend.ts:4] Warning: NPU warning, error code is 507018[Error]:
[Error]: The aicpu execution failed.
        Rectify the fault based on the error information.
""",
    "ignored": f"Exception ignored in: <function Pool.__del__ at 0x7f>\n{TRACE}ValueError: pool is closed\n",
    "atexit": f"Error in atexit._run_exitfuncs:\n{TRACE}OSError: [Errno 9] Bad file descriptor\n",
    "logging": f"--- Logging error ---\n{TRACE}ValueError: I/O on closed file\nCall stack:\n  File 'a.py'\n",
    "watchdog": """\
[E ProcessGroup.cpp:9] To avoid data inconsistency, we are taking the entire process down.
terminate called after throwing an instance of 'std::runtime_error'
""",
    "compilers": f"""\
Process ForkServerProcess-2:
{TRACE}EOFError
[ERROR] TBE Subprocess[task_distribute] raise error[], main process disappeared!
""",
    "abort": """\
terminate called after throwing an instance of 'c10::Error'
  what():  stream synchronize failed
Aborted (core dumped)
""",
    "glibc": "double free or corruption (!prev)\n",
    "torchrun": f"""\
[2026-03-01 10:00:01,1] torch.distributed.elastic.multiprocessing.api: [ERROR] failed (exitcode: 1) pid: 71
{TRACE}torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
Root Cause (first observed failure):
[0]:
  exitcode  : 1 (pid: 71)
""",
    "paddle": """
--------------------------------------
C++ Traceback (most recent call last):
--------------------------------------
0   paddle::framework::SignalHandle(char const*, int)

----------------------
Error Message Summary:
----------------------
FatalError: `Termination signal` is detected by the operating system.
  [SignalInfo: *** SIGTERM (@0x1f4) received by PID 71 (TID 0x7f451f2d9740) from PID 60 ***]
""",
    "deepspeed": "[2026-03-01 10:00:05,123] [ERROR] [launch.py:321:sigkill_handler] ['python'] exits with "
    "return code = 1\n",
    "msrun": f"{TRACE}RuntimeError: Distributed job exited with exception. Please check logs in ./log.\n",
    "exit": "[ERROR] 2026-03-01-10:00:21 (PID:71, Device:0) ERR99999 UNKNOWN applicaiton exception\n",
    "launchers": "make: *** [Makefile:3: train] Error 1\nsrun: error: n7: task 0: Exited with exit code 1\n",
    "progress": "".join(f"saved {number}\n" for number in range(150)),
}

# torch 2.13: rendezvous.py, distributed_c10d.py, elastic/utils/store.py; TCPStore.cpp, socket.cpp,
# ProcessGroupGloo.cpp, ProcessGroupNCCL.cpp; gloo's pair.cc, unbound_buffer.cc; torch_npu's
# ProcessGroupHCCL.cpp, NPUException.cpp.
TORCH_WAITS = [
    TRACE + "DistStoreError: Timed out initializing process group in store based barrier on rank 2, for key: "
    "store_based_barrier_key:1 (world_size=4, num_workers_joined=3, timeout=0:30:00 error=)",
    TRACE + "DistStoreError: wait timeout after 6000ms, keys: /default_pg/0//cpu//0/0",
    TRACE + "DistStoreError: Timed out waiting on barrier on rank 0, for key prefix: a (missing_ranks=2)",
    TRACE + "DistNetworkError: Failed to recv, got 0 bytes. Connection was likely closed.",
    TRACE + "RuntimeError: Timed out waiting 1800000ms for send operation to complete",
    TRACE + "RuntimeError: Application timeout caused pair closure",
    TRACE + "RuntimeError: Rank 2 failed to pass monitoredBarrier in 5000 ms",
    TRACE + "RuntimeError: [3] is setting up HCCL communicator and retrieving hcclUniqueId from [0] via c10d "
    "key-value store by key '0', but store->get('0') got error: Broken pipe.\n"
    "[ERROR] 2026-03-01-10:00:21 (PID:71, Device:3, RankID:3) ERR02005 DIST internal error",
    TRACE + "RuntimeError: ACL stream synchronize failed, error code:107020",
    TRACE + "RuntimeError: npuSynchronizeDevice: SUSPECT REMOTE ERROR, error code is 507057",
    """\
[rank1]:[E324 13:00:25.428029551 compiler_depend.ts:574] [Rank 1] Watchdog caught collective operation \
timeout: WorkHCCL(SeqNum=196, OpType=ALLREDUCE) ran for 3600185 milliseconds before timing out.
[rank1]:[E324 13:00:25.428092542 compiler_depend.ts:628] Some HCCL operations have failed or timed out. \
Due to the asynchronous nature of ASCEND kernels, NPU operations might run on corrupted/incomplete data.
""",
    """\
[rank1]:[E324 13:00:25.1 x.cpp:18] [PG 0 Rank 1] Received a global dump signal from rank 3.
[rank1]:[F324 13:00:26.4 x.cpp:19] [PG 0 Rank 1] PGHCCL's watchdog detected a dump signal from rank 3.
""",
]
# MindSpore 2.10: ccsrc/distributed/init.cc, cluster/topology, ms_collective_comm_lib.cc; msrun's _api.py.
RULE = "-" * 52
MS_STACK = f"\n\n{RULE}\n- C++ Call Stack: (For framework developers)\n{RULE}\nmindspore/ccsrc/a.cc:3 Run"
MINDSPORE_WAITS = [
    TRACE + f"RuntimeError: Failed to register the compute graph node to the meta server node.{MS_STACK}",
    TRACE + "RuntimeError: Failed to initialize distributed job cluster because some processes in the "
    f"cluster are not successfully spawned. It may be one of the following:\n1. A process failed.{MS_STACK}",
    TRACE + "RuntimeError: Failed to fetch the unique id of the collective lib from the meta server node. "
    f"Please check root rank: 0's log.{MS_STACK}",
    TRACE + "RuntimeError: The total number of timed out node is 1. Timed out node list is: "
    "[const vector]{3}, worker 3 is the first one timed out, please check its log.",
    TRACE + f"RuntimeError: Call runtime aclrtSyncStream error.\n\n{RULE}\n- Ascend Error Message:\n{RULE}"
    "\nEI0002: [PID: 77] 2026-03-01-10:00:00.1 The wait execution of the Notify register times out. Reason: "
    f"The Notify register has not received the Notify record from remote rank [0].{MS_STACK}",
    "[ERROR] DISTRIBUTED(7,7f9a,python):2026-03-10-09:40:38.722.000 [a.cc:5] Run] The node: 3 is timed out.",
    "[ERROR] ME(16:28,MainProcess):2026-03-10-09:40:38.722.000 [a/_api.py:431] Time out nodes are ['3']",
]
# Paddle 3.3: phi/core/distributed/store, phi/core/distributed/comm_task_manager.cc; fluid/platform/init.cc.
PADDLE_BOX = f"""
{RULE}
C++ Traceback (most recent call last):
{RULE}
0   paddle::Run()

{RULE}
Error Message Summary:
{RULE}
"""
PADDLE_WAITS = [
    TRACE + "RuntimeError: (Unavailable) Wait timeout for key(s): 0/1  (at tcp_store.cc:345)",
    TRACE + "ValueError: (InvalidArgument) TCP receive error. Details: Connection timed out.",
    TRACE + "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:8",
    "E0301 10:00:00.5 71 comm_task_manager.cc:141] Detected timeout process_group: 0. op:ALLREDUCE",
]


def end(tail: str, code: int | None = 1, rank: int = 0, **more: Any) -> RankEnd:
    return RankEnd(rank, rank, pid=71, code=code, ended_ns=5 + rank, tail=tail.encode(), **more)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("prefix", ["", "[rank0]: ", "[1,0]<stderr>:", "(Worker pid=71) "])
def test_noise_behind_an_error_changes_no_verdict(noise: str, prefix: str) -> None:
    def told(error: str) -> bool:
        lines = (ALLREDUCE if error == "wait" else TRACE + error).splitlines(keepends=True)
        return waits_for_others(end("step 7\n" + "".join(prefix + line for line in lines) + noise))

    assert told("wait") and not told("ValueError: sample 17 has no label\n")


@pytest.mark.parametrize(
    "text",
    [
        ALLREDUCE,
        SOCKET,
        "EI0002: The wait execution of the Notify register times out.",
        TRACE + "RuntimeError: HcclAllGather, error code is 9",
        *(TRACE + f"RuntimeError: {ROOT_INFO}, error code is {code}" for code in (6, 9, 11)),
        TRACE + "RuntimeError: HCCL function error: hcclCommInitRootInfoConfig(numRanks), error code is 9",
        TRACE + "RuntimeError: [../gloo/transport/tcp/pair.cc:5] Connection closed by peer [10.0.0.2]:8",
        TRACE + "RuntimeError: [2] sets up NCCL by store->get('0'): Socket Timeout",
        TRACE + "DistNetworkError: The client socket has timed out after 600s",
        TRACE + "DistStoreError: Timed out after 601 seconds waiting for clients. 3/4 joined",
        TRACE + "tensorflow.errors.UnavailableError: Socket closed",
        TRACE + "grpc.RpcError: status = StatusCode.UNAVAILABLE, failed to connect to all addresses",
        TRACE + "BrokenPipeError: [Errno 32] Broken pipe",
        "[E ProcessGroupNCCL.cpp:828] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(...)",
        "MPI_ABORT was invoked on rank 3 in communicator MPI_COMM_WORLD with errorcode 1.",
        TRACE + "ConnectionResetError: [Errno 104] Connection reset" + CAUSE + TRACE + "RuntimeError: no",
        TRACE + "TimeoutError: barrier timed out" + CAUSE + TRACE + "RuntimeError: step 7 is lost",
        TRACE + "KeyError: 'a'" + CONTEXT + TRACE + "RuntimeError: all_reduce timed out",
        TRACE + "RuntimeError: Inner error, see log. error code is 507018",
        *TORCH_WAITS, *MINDSPORE_WAITS, *PADDLE_WAITS,
    ],
)  # fmt: skip
def test_a_rank_that_waited_in_vain_is_a_victim(text: str) -> None:
    earlier = "EI0002: notify wait timeout\n" if "507018" in text else ""
    assert waits_for_others(end(earlier + "x\n" * 20 + text + "\n"))


@pytest.mark.parametrize(
    "text",
    [
        TRACE + "ValueError: learning rate must be positive",
        TRACE + "ConnectionResetError: [Errno 104] by peer" + CONTEXT + TRACE + "ValueError: no such label",
        TRACE + "requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='hub'): Read timed out.",
        TRACE + "ConnectionError: https://hub/model: Connection reset by peer",
        "MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD with errorcode 1.",
        "EZ9999: Inner Error!\n        The aicore exception, fault kernel_name=MatMul\n" + SOCKET,
        TRACE + "RuntimeError: NPU function error: aclrtSynchronizeStream, error code is 507035",
        TRACE + "RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed.",
        ALLREDUCE + "retry 1 works\n" + "step 8, loss 0.2\n" * 500 + "bye",
        ALLREDUCE + "retry 1 works\n" + TRACE + "ValueError: no such label",
        # TCPStore.cpp; HCCL's result 7; ProcessGroupHCCL's monitor where nothing was waited for
        TRACE + "DistNetworkError: The server socket has failed to listen. port: 29500, code: -98, name: "
        "EADDRINUSE, message: address already in use",
        TRACE + "RuntimeError: HcclCommInitRootInfo, error code is 7\nEJ0003: Failed to bind the IP port.",
        *(TRACE + f"RuntimeError: {ROOT_INFO}, error code is {code}" for code in (1, 7, 15)),
        "[rank1]:[F324 13:00:26.4 x.cpp:9] [PG 0 Rank 1] ProcessGroupHCCL's watchdog got stuck for 600 s",
        # mindspore/core/ops; paddle/phi/core/enforce.h; torch/nn/parallel/distributed.py
        TRACE + f"ValueError: For 'MatMul', the dimensions must be equal, but got 3 and 4.{MS_STACK}",
        TRACE + "ValueError: (InvalidArgument) Shapes differ.\n  [Hint: Expected x == y, received 3.]",
        PADDLE_BOX + "FatalError: `Segmentation fault` is detected by the operating system.\n",
        "no error at all",
        "",
    ],
)
def test_a_rank_that_failed_by_itself_is_none(text: str) -> None:
    assert not waits_for_others(end(text + "\n"))


@pytest.mark.parametrize(
    "error",
    [PADDLE_WAITS[0], TRACE + "ValueError: no label", TRACE + "OSError: disk" + CONTEXT + PADDLE_WAITS[2]],
)
def test_paddle_s_report_of_a_sigterm_behind_an_error_changes_no_verdict(error: str) -> None:
    noisy = end(error + "\n\n" + NOISES["paddle"])
    assert waits_for_others(noisy) == waits_for_others(end(error + "\n"))
    assert "Termination" not in deciding_words(noisy)


@pytest.mark.parametrize(
    ("code", "victim"),
    [(1, True), (134, True), (-6, True), (-11, False), (139, False), (-9, False), (0, False)],
)
def test_of_signals_only_the_abort_of_a_watchdog_makes_a_victim(code: int, victim: bool) -> None:
    text = "[E ProcessGroupNCCL.cpp:8] [Rank 0] Watchdog caught collective operation timeout: ALLREDUCE\n"
    assert waits_for_others(end(text + NOISES["abort"], code)) is victim


MS_KILLED = """\
[ERROR] DISTRIBUTED(71,7f23,python):2026-03-01-10:00:20.679.851 [mindspore/ccsrc/cluster/rpc/core/\
collective_ops_impl.cc:162] RunRingAllReduce] Ring ReduceScatter wait receiving [1,1] failed.
[ERROR] KERNEL(71,7f23,python):2026-03-01-10:00:20.679.919 [mindspore/ops/kernel/cpu/native/\
allreduce_cpu_kernel.cc:89] Launch] AllReduceCPUKernelMod launch failed.
[WARNING] DISTRIBUTED(71,7f23,python):2026-03-01-10:00:22.560.194 [mindspore/ccsrc/cluster/init.cc:123] \
operator()] Callback on exception is called.
[WARNING] DISTRIBUTED(71,7f23,python):2026-03-01-10:00:22.563.871 [mindspore/ccsrc/cluster/init.cc:135] \
operator()] Kill this process with SIGTERM.
"""


def test_a_rank_that_mindspore_ends_for_a_failed_collective_is_a_victim_of_the_one_that_is_silent() -> None:
    killed = end(MS_KILLED, -15, rank=0)
    assert waits_for_others(killed) and not waits_for_others(end(MS_KILLED, -9))
    assert not waits_for_others(end(MS_KILLED.rsplit("[WARNING]", 1)[0], -15))  # by somebody else
    _, culprit = judge([killed, replace(end("", -9, rank=1), ended_ns=9 * 10**9)], 8 * 10**9)
    assert culprit is not None and (culprit.rank, culprit.status) == (1, RankStatus.SILENT)


PADDLE_ABORT = f"""\
terminate called after throwing an instance of '%s'
  what():  %s
{PADDLE_BOX}FatalError: `Process abort signal` is detected by the operating system.
  [TimeInfo: *** Aborted at 1795949787 (unix time) try "date -d @1795949787" if you are using GNU date ***]
  [SignalInfo: *** SIGABRT (@0x7153) received by PID 71 (TID 0x7f39c393cb80) from PID 71 ***]

"""


def test_what_paddle_aborted_for_decides_not_that_it_did() -> None:
    late = "[/paddle/gloo/transport/tcp/pair.cc:584] TIMEOUT self_rank = 0 pair_rank = 1 peer_str = [a]:5"
    waited = end(PADDLE_ABORT % ("gloo::TimeoutException", late), -6, rank=0)
    assert waits_for_others(waited)
    _, culprit = judge([waited, end("step 1\n", 0, rank=1)], None)
    assert culprit is not None and (culprit.rank, culprit.status) == (1, RankStatus.EXITED_EARLY)
    assert not waits_for_others(end(PADDLE_ABORT % ("std::runtime_error", "no label"), -6))


def test_canns_log_decides_where_the_program_only_says_that_it_failed() -> None:
    vague = "RuntimeError: ACL stream synchronize failed, error code is 507018\n"
    waited = b"[ERROR] HCCL(71,python):2026-03-01-10:00:20 [task.cc:60] notify wait timeout, EI0002\n"
    faulty = b"[ERROR] RUNTIME(71,python):2026-03-01-10:00:10 [x.cc:9] vector core exception, kernel Add\n"
    assert not waits_for_others(end(vague))
    assert waits_for_others(end(vague, plog=waited)) and waits_for_others(end("", plog=waited))
    assert not waits_for_others(end(vague, plog=faulty + waited))
    assert not waits_for_others(end("ValueError: no label\n", plog=waited))


def test_an_exception_decides_before_the_output_unless_it_says_nothing() -> None:
    def raised(kind: str, message: str) -> ErrorRecord:
        return ErrorRecord(4, kind, message, f"{TRACE}{kind}: {message}\n", "MainThread", True)

    assert not waits_for_others(end(SOCKET, error=raised("ValueError", "no label")))
    assert waits_for_others(end("ValueError: old\n", error=raised("TimeoutError", "barrier timed out")))
    assert waits_for_others(end(SOCKET, error=raised("SystemExit", "1")))
    failed = raised("subprocess.CalledProcessError", "Command 'x' returned non-zero exit status 1.")
    assert waits_for_others(end(SOCKET, error=failed))


SPAWNED = "\n\n-- Process 1 terminated with the following error:\n" + TRACE + "ValueError: no label\n"


@pytest.mark.parametrize(
    ("kind", "message", "tail", "inner"),
    [
        # subprocess.py, as Accelerate's and DeepSpeed's launchers raise it
        ("subprocess.CalledProcessError", "Command '[x]' returned non-zero exit status 1.",
         TRACE + "KeyError: 'a'\n" + TRACE + "subprocess.CalledProcessError: Command '[x]' returned non-zero "
         "exit status 1.\n", "KeyError: 'a'"),
        ("subprocess.CalledProcessError", "Command '[x]' returned non-zero exit status 1.", "", ""),
        # torch/multiprocessing/spawn.py
        ("torch.multiprocessing.spawn.ProcessRaisedException", SPAWNED, "", "ValueError: no label"),
        ("ProcessExitedException", "process 0 terminated with signal SIGKILL", TRACE + "OSError: disk\n",
         "OSError: disk"),
        # torch/distributed/elastic/multiprocessing/errors/__init__.py
        ("torch.distributed.elastic.multiprocessing.errors.ChildFailedError", "\n====\ntrain.py FAILED",
         "[rank0]: " + TRACE.replace("\n", "\n[rank0]: ") + "OSError: disk\n", "OSError: disk"),
        ("ValueError", "no label", TRACE + "KeyError: 'a'\n", ""),
    ],
)  # fmt: skip
def test_the_error_of_a_process_that_a_rank_had_started(
    kind: str, message: str, tail: str, inner: str
) -> None:
    error = ErrorRecord(4, kind, message, f"{TRACE}{kind}: {message}\n", "MainThread", True)
    assert inner_error(end(tail, error=error)) == inner


BROKEN = TRACE + "KeyError: 'sample 9 is broken'\n"
KILLED = "(Fatal) Blocking queue is killed because the data reader raises an exception.\n  [Hint: ...]"
READ = f"DataLoader worker(0) caught KeyError with message:\n{BROKEN}"
MINDDATA = (
    f"Exception thrown from user defined Python function in dataset. \n\n{'-' * 66}\n- Python Call Stack: \n"
    f"{'-' * 66}\n{BROKEN}\n{'-' * 66}\n- Dataset Pipeline Error Message: \n{'-' * 66}\n"
    "[ERROR] Execute user Python code failed, check 'Python Call Stack' above.\n"
)


@pytest.mark.parametrize(
    ("kind", "message", "thread", "inner"),
    [
        ("KeyError", f"Caught KeyError in DataLoader worker process 1.\nOriginal {BROKEN}", "", "KeyError: "),
        ("RuntimeError", MINDDATA, "", "KeyError: "),
        ("SystemError", KILLED, repr(READ), "KeyError: "),
        ("SystemError", KILLED, "", ""),
        ("RuntimeError", f"no shards in dataset\n{BROKEN}", "", ""),
    ],
)
def test_the_error_of_a_data_set_that_a_rank_s_own_carries(
    kind: str, message: str, thread: str, inner: str
) -> None:
    error = ErrorRecord(4, kind, message, f"{TRACE}{kind}: {message}\n", "MainThread", True)
    reader = ErrorRecord(3, "KeyError", thread, f"{TRACE}KeyError: {thread}\n", "Thread-1", False)
    found = end("", error=error, thread_error=reader if thread else None)
    assert data_error(found) == (f"{inner}'sample 9 is broken'" if inner else "")
    assert shown_error(found) is (reader if thread else error)
    plain, carried = f"{kind}: {message.splitlines()[0]}", f"{data_error(found)} (in the data set: {kind})"
    assert cause(replace(found, status=RankStatus.RAISED)) == (carried if inner else plain)


def test_of_ranks_that_all_waited_the_one_with_an_error_of_its_own_is_the_culprit() -> None:
    plain = TRACE + "TimeoutError: barrier timed out\n"
    own = TRACE + "ValueError: no label\n" + CONTEXT + plain
    _, culprit = judge([end(plain, rank=0), end(own, rank=1), end(plain, rank=2)], None)
    assert culprit is not None and culprit.rank == 1


@pytest.mark.parametrize(
    ("text", "accused"),
    [
        ("RuntimeError: [Rank 0]: Ranks 2, 3 failed to pass monitoredBarrier in 5000 ms", {2, 3}),
        ("RuntimeError: Rank 1 successfully reached monitoredBarrier, but received errors while waiting for "
         "send/recv from rank 3. Please check rank 3 logs for faulty rank.", {3}),
        ("DistStoreError: Timed out waiting on barrier on rank 0 (world_size=4, missing_ranks=2)", {2}),
        (TORCH_WAITS[7], {0}),
        ("[E TraceUtils.h:9] \n\t - To our best knowledge, ranks [2] are the lagging ranks that caused this "
         "timeout. They never joined any collectives", {2}),
        ("[E TraceUtils.h:9] \n\t - the lagging/dead/mismatched ranks that caused the desync are:\n\t   - "
         "[0] joined but didn't finish collective #4\n\t     [2, 3] finished collective #3, but didn't join "
         "collective #4 (count from 1)", {2, 3}),
        ("RuntimeError: [gloo/transport/tcp/pair.cc:584] TIMEOUT self_rank = 1 pair_rank = 2 peer_str", {2}),
        (MINDSPORE_WAITS[2], {0}), (MINDSPORE_WAITS[3], {3}), (MINDSPORE_WAITS[4], {0}),
        (MINDSPORE_WAITS[5], {3}),
        ("[ERROR] ME(16:28,MainProcess):2026-03-10-09:40:38.722.000 [a.py:4] Time out nodes are ['3', '2']",
         {2, 3}),
        (ALLREDUCE, set()),
    ],
)  # fmt: skip
def test_the_ranks_that_a_victim_waited_for_are_accused(text: str, accused: set) -> None:  # type: ignore[type-arg]
    assert accused_ranks(end(text + "\n", rank=1)) == accused
    quiet = [RankEnd(rank, rank, code=-15, ended_ns=90) for rank in (0, 2, 3)]
    _, culprit = judge([end(text + "\n", rank=1), *quiet], 50)
    assert culprit is not None and culprit.rank == (min(accused) if accused else 1)


HEARTBEAT = """\
[W compiler_depend.ts:487] Warning: NPU warning, error code is 507048[Error]:
[Error]: The execution of the internal task times out.
EI0002: [PID: 71] 2026-03-01-10:00:20.1 The wait execution of the Notify register times out. Reason: The \
Notify register has not received the Notify record from remote rank [unknown].base information: [streamID:[22]
there are(is) 1 abnormal device(s):
    Cluster Exception Location[IP/ID]:[10.0.0.2/5], Arrival Time:[Thu Nov 28 11:56:34 2024], \
Discoverer:[10.0.0.2/4], ExceptionType:[Heartbeat Lost Occurred], Possible Reason:1. Process has exited
"""  # torch_npu's troubleshooting guide, "HCCL timeout"


def test_the_device_that_hccl_lost_is_the_suspect_of_a_run_on_one_host() -> None:
    quiet = [RankEnd(rank, rank + 4, code=-15, ended_ns=90) for rank in (1, 2, 3)]
    victim = end(HEARTBEAT, rank=0)
    _, culprit = judge([victim, *quiet], 50)
    assert culprit is not None and culprit.rank == 1
    elsewhere = [replace(item, host=f"node{item.rank}") for item in quiet]
    _, culprit = judge([victim, *elsewhere], 50)
    assert culprit is not None and culprit.rank == 0


def test_of_victims_the_one_that_most_others_waited_for_is_the_suspect() -> None:
    text = "RuntimeError: Rank 2 failed to pass monitoredBarrier in 5000 ms\n"
    lost = "RuntimeError: [pair.cc:5] Connection closed by peer [10.0.0.1]:8\n"
    _, culprit = judge([end(text, rank=0), end(text, rank=1), end(lost, rank=2)], None)
    assert culprit is not None and culprit.rank == 2
    ring = "EI0002: The Notify register has not received the Notify record from remote rank [{}].\n"
    _, culprit = judge([end(ring.format((rank + 1) % 3), rank=rank) for rank in range(3)], None)
    assert culprit is not None and culprit.rank == 0  # each waited for its neighbour: the first


def test_the_words_of_a_rank_without_an_error_are_its_last_lines() -> None:
    words = deciding_words(end("".join(f"line {n}\n" for n in range(40)) + NOISES["semaphores"]))
    assert words.split("\n")[-1] == "line 39" and "leaked" not in words and "line 3\n" not in words
