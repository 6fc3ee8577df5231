"""Where the ranks are when one of them hangs."""

from __future__ import annotations

from typing import Sequence

from launcher.diagnosis import stacks
from launcher.diagnosis.hang import compared, groups_of

RUN = [("/venv/lib/python3.11/site-packages/tf/session.py", 9, "run"), ("/job/train.py", 40, "loop")]


def dump(*threads: Sequence[tuple[str, int, str]]) -> str:
    """Write stacks, innermost call first, as faulthandler does; the first is the main thread."""
    lines = []
    for number, frames in reversed(list(enumerate(threads))):
        kind = "Thread" if number else "Current thread"
        lines.append(f"{kind} 0x{number:x} (most recent call first):")
        lines += [f'  File "{file}", line {line} in {function}' for file, line, function in frames]
    return "\n".join(lines) + "\n"


def test_ranks_are_told_apart_by_the_function_of_their_main_thread() -> None:
    texts = {rank: dump([("/job/c.py", 7, "all_reduce")]) for rank in (0, 2, 3)}
    texts[1] = dump([("/job/data.py", 3, "tokenise")])
    line = stacks.summary(groups_of(texts))
    assert line.startswith("0,2-3 in all_reduce") and "; 1 in tokenise" in line


def test_a_loop_that_waits_is_one_place_whatever_its_line() -> None:
    texts = {rank: dump([("/job/c.py", 7 + rank, "barrier")]) for rank in range(4)}
    assert [group.ranks for group in groups_of(texts)] == [(0, 1, 2, 3)]


def test_where_all_main_threads_are_in_a_session_the_thread_below_tells() -> None:
    feeder = [("/job/data.py", 3, "tokenise")]
    texts = {rank: dump(RUN, [("/job/c.py", 7, "barrier")]) for rank in (0, 2, 3)}
    texts[1] = dump(RUN, feeder)
    groups = groups_of(texts)
    assert [group.ranks for group in groups] == [(0, 2, 3), (1,)]
    assert groups[-1].frames[0].function == "tokenise"


def test_dumps_without_frames_are_a_group_too() -> None:
    assert groups_of({}) == []
    assert [group.ranks for group in groups_of({0: "", 1: dump(RUN)})] == [(0,), (1,)]
    assert compared({0: "", 1: dump(RUN)}, [], []).summary.startswith("rank 0 in no Python code; 1 in run")
    assert compared({0: "", 1: ""}, [2], ["rank 2 is stopped"]).summary == "rank 2 is stopped"


def test_of_two_ranks_the_one_that_waits_for_no_other_differs() -> None:
    backward = dump([("/v/site-packages/torch/autograd/graph.py", 9, "run"), ("/job/train.py", 4, "main")])
    reduce = dump([("/v/site-packages/torch/distributed/distributed_c10d.py", 9, "all_reduce")])
    reading = dump([("/job/train.py", 9, "read"), ("/job/train.py", 4, "main")])
    for texts, outlier in (
        ((reading, backward), 0), ((backward, reading), 1), ((reduce, reading), 1),
        ((reduce, backward), None), ((reading, dump([("/job/other.py", 9, "write")])), None),
        ((backward, backward), None),
    ):  # fmt: skip
        assert compared(dict(enumerate(texts)), [], []).outlier == outlier


def test_ranks_in_one_function_are_told_apart_by_what_it_calls() -> None:
    torch, main = "/v/site-packages/torch", ("/job/train.py", 4, "main")
    backward = [(f"{torch}/autograd/graph.py", 9, "_run"), (f"{torch}/_tensor.py", 5, "backward"), main]
    wrapper = (f"{torch}/distributed/c10d_logger.py", 8, "wrapper")
    receive = [(f"{torch}/distributed/d.py", 9, "recv"), wrapper]
    reduce = [(f"{torch}/distributed/d.py", 5, "all_reduce"), wrapper]
    sleep = ("/job/train.py", 7, "main")
    found = compared({rank: dump([sleep] if rank == 2 else backward) for rank in range(4)}, [], [])
    assert found.outlier == 2
    assert "0-1,3 in _run, called in main (/job/train.py:4); 2 in main (/job/train.py:7)" in found.summary
    found = compared({rank: dump([*(receive if rank == 1 else reduce), main]) for rank in range(4)}, [], [])
    assert found.outlier == 1
