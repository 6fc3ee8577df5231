"""What a rank wrote last decides whether it failed or waited for another, not the noise of a shutdown."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.diagnosis.failure import ErrorRecord, RankEnd
from launcher.diagnosis.verdict import judge
from launcher.diagnosis.victims import deciding_words, waits_for_others

TRACE = 'Traceback (most recent call last):\n  File "train.py", line 9, in step\n    run()\n'
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
SOCKET = "EI0006: [PID: 71] 2026-03-01-10:00:20.444 Getting socket times out. Reason: no data in time.\n"
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
    "exit": "[ERROR] 2026-03-01-10:00:21 (PID:71, Device:0) ERR99999 UNKNOWN applicaiton exception\n",
    "launchers": "make: *** [Makefile:3: train] Error 1\nsrun: error: n7: task 0: Exited with exit code 1\n",
    "progress": "".join(f"saved {number}\n" for number in range(150)),
}


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
    ],
)
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
        "no error at all",
        "",
    ],
)
def test_a_rank_that_failed_by_itself_is_none(text: str) -> None:
    assert not waits_for_others(end(text + "\n"))


@pytest.mark.parametrize(
    ("code", "victim"),
    [(1, True), (134, True), (-6, True), (-11, False), (139, False), (-9, False), (0, False)],
)
def test_of_signals_only_the_abort_of_a_watchdog_makes_a_victim(code: int, victim: bool) -> None:
    text = "[E ProcessGroupNCCL.cpp:8] [Rank 0] Watchdog caught collective operation timeout: ALLREDUCE\n"
    assert waits_for_others(end(text + NOISES["abort"], code)) is victim


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


def test_of_ranks_that_all_waited_the_one_with_an_error_of_its_own_is_the_culprit() -> None:
    plain = TRACE + "TimeoutError: barrier timed out\n"
    own = TRACE + "ValueError: no label\n" + CONTEXT + plain
    _, culprit = judge([end(plain, rank=0), end(own, rank=1), end(plain, rank=2)], None)
    assert culprit is not None and culprit.rank == 1


def test_the_words_of_a_rank_without_an_error_are_its_last_lines() -> None:
    words = deciding_words(end("".join(f"line {n}\n" for n in range(40)) + NOISES["semaphores"]))
    assert words.split("\n")[-1] == "line 39" and "leaked" not in words and "line 3\n" not in words
