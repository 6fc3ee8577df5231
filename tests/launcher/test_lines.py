"""Lines of any program's log: prefixes, levels, and the blocks of errors."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.lines.blocks import BlockReader, ErrorBlock, error_blocks
from launcher.lines.levels import ERROR, INFO, WARNING, level
from launcher.lines.prefixes import PrefixReader

TRACE = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\n%s'

PADDLE = """\
C++ Traceback (most recent call last):
-----
0   paddle::Run()
1   paddle::framework::SignalHandle(char const*, int)

-----
Error Message Summary:
-----
"""  # paddle/common/enforce.h
MINDSPORE = """

-----
- Ascend Error Message:
-----
EI0006: Getting socket times out.
        Solution: wait

(Please search "Ascend Error Message" at a.b)

-----
- C++ Call Stack: (For framework developers)
-----
mindspore/ccsrc/a.cc:3 Run"""  # mindspore/core/utils/ms_exception.cc
TORCHELASTIC = """
=====
train.py FAILED
-----
Root Cause (first observed failure):
[0]:
  rank      : 1 (local_rank: 1)
  traceback : Traceback (most recent call last):
    ValueError: v
====="""  # torch/distributed/elastic/multiprocessing/errors/__init__.py


def blocks(text: str) -> list[ErrorBlock]:
    return error_blocks(text.encode().split(b"\n"))


def prefixed(prefix: str, text: str) -> list[str]:
    return [prefix + line for line in text.split("\n")]


def interleaved(*streams: list[str]) -> str:
    longest = max(map(len, streams))
    return "\n".join(stream[at] for at in range(longest) for stream in streams if at < len(stream))


@pytest.mark.parametrize(
    "prefix,rank",
    [
        ("[rank%d]: ", True),
        ("[default%d]:", True),
        ("[trainer%d]:", True),
        ("[worker-1:%d]:", True),
        ("[1,%d]<stderr>:", True),
        ("[prterun-n1-77@1,%d]<stderr>: ", True),
        ("%d: ", True),
        ("  %d: ", True),
        ("[%d] ", True),
        ("rank %d: ", True),
        ("10:21:35.118 %d| ", True),
        ("[pod/bert-%d/main] 2026-03-01T10:00:00.12%dZ ", False),
        ("bert-%d  | ", False),
        ("node%d: ", False),
        ("(Worker_TP%d pid=77) ", False),
        ("\x1b[32m[rank%d]:\x1b[0m ", True),
        ("Nov 28 10:00:00 node%d python[77]: ", False),
        ("2026-03-01T10:00:00.5Z stderr F [rank%d]: ", True),
        ("2026-03-01 10:00:00,123 ERROR [Rank %d] ", True),
        ("node%d> ", False),
    ],
)
def test_ranks_that_interleave_each_keep_their_traceback(prefix: str, rank: bool) -> None:
    names = [prefix.replace("%d", number, 1).replace("%d", "5") for number in "03"]
    text = interleaved(
        prefixed(names[0], "starting\n" + TRACE % "ValueError: zero" + "\nstep 5 loss 2.0"),
        prefixed(names[1], "starting\nstep 1\nstep 2\n" + TRACE % "OSError: three"),
    )
    found = [block for block in blocks(text) if block.kind == "traceback"]
    assert [block.raised for block in found] == ["ValueError: zero", "OSError: three"]
    assert [block.rank for block in found] == ([0, 3] if rank else [None, None])
    assert [block.lines[1:3] for block in found] == [[b'  File "x.py", line 1, in f', b"    g()"]] * 2


def test_lines_of_dockers_json_files_are_read_as_what_they_hold() -> None:
    lines = (TRACE % "OSError: gone").replace('"', '\\"').split("\n")
    text = "\n".join(
        f'{{"log":"{line}\\n","stream":"stderr","time":"2026-03-01T10:00:00Z"}}' for line in lines
    )
    assert [block.text for block in blocks(text)] == [TRACE % "OSError: gone"]


@pytest.mark.parametrize(
    "text,raised,lines",
    [
        (
            TRACE % "KeyError: 1"
            + "\n\nDuring handling of the above exception, another exception occurred:\n\n"
            + TRACE % "ValueError: bad"
            + "\nINFO after",
            "ValueError: bad",
            11,
        ),
        (
            TRACE % "KeyError: 1\n\nThe above exception was the direct cause of the following exception:\n\n"
            + TRACE % "pkg.mod.Odd: bad",
            "pkg.mod.Odd: bad",
            11,
        ),
        (
            '  + Exception Group Traceback (most recent call last):\n  |   File "x.py", line 1\n'
            "  | ExceptionGroup: many (2 sub-exceptions)\n  +-+--- 1 ---\n    | ValueError: 1\n    +--\nINFO",
            "  | ExceptionGroup: many (2 sub-exceptions)",
            6,
        ),
        (
            '  File "x.py", line 1\n    def f(:\n          ^\nSyntaxError: invalid syntax',
            "SyntaxError: invalid syntax",
            4,
        ),
        (TRACE % "AssertionError" + "\na note\n2026-03-01 10:00:00 INFO after", "AssertionError", 5),
        (
            TRACE % "RuntimeError: one\nsecond line of it\n  third" + "\n10:00:01 INFO x",
            "RuntimeError: one",
            6,
        ),
        (
            TRACE
            % "torch.AcceleratorError: NPU\n[ERROR] 2026-03-01-10:00:00 (PID:7, Device:0, RankID:-1) ERR00100"
            "\n[Error]: Invalid.\n        Check it\nEE1001: [PID: 7] 2026-03-01-10:00:00.1 The argument\n"
            "        TraceBack (most recent call last):\n        rtSetDevice",
            "torch.AcceleratorError: NPU",
            10,
        ),
        (
            TRACE % "RuntimeError: Caught ValueError in DataLoader worker process 0.\nOriginal "
            + TRACE % "ValueError: v",
            "ValueError: v",
            8,
        ),
        ("ERROR:root:" + TRACE % "ValueError: v" + "\nINFO:root:x", "ValueError: v", 4),
        (PADDLE + "FatalError: `Segmentation fault` is detected.\n  [TimeInfo: now]\n",
         "FatalError: `Segmentation fault` is detected.", 10),
        (TRACE % f"OSError: \n\n-----\n{PADDLE}ExternalError: HCCL error(2).\n  [Hint: see]",
         "ExternalError: HCCL error(2).", 16),
        (TRACE % f"RuntimeError: Init failed{MINDSPORE}", "RuntimeError: Init failed", 17),
        (TRACE % f"torch.distributed.elastic.multiprocessing.errors.ChildFailedError: {TORCHELASTIC}",
         "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ", 13),
        ("Exception in thread Thread-1:\n" + TRACE % "ValueError: v", "ValueError: v", 5),
        (
            'multiprocessing.pool.RemoteTraceback: \n"""\n' + TRACE % "ValueError: v" + '\n"""',
            "ValueError: v",
            7,
        ),
    ],
)  # fmt: skip
def test_a_traceback_is_one_block_with_all_that_belongs_to_it(text: str, raised: str, lines: int) -> None:
    (block,) = blocks(text)
    assert (block.kind, block.raised, len(block.lines)) == ("traceback", raised, lines)


def test_a_logger_that_puts_its_head_before_each_line_is_followed_by_it() -> None:
    head = "2026-03-01 10:00:0%d ERROR main: "
    text = "\n".join(head % at + line for at, line in enumerate((TRACE % "ValueError: v").split("\n")))
    (block,) = blocks(text + "\n2026-03-01 10:00:05 INFO main: on")
    assert (block.raised, len(block.lines)) == ("ValueError: v", 4)


REPORT = (
    "EE9999: Inner Error!\nEE9999: [PID: 7] 2026-03-01-10:21:35.118.204 wait failed\n"
    "        TraceBack (most recent call last):\n        rtStream failed"
)


@pytest.mark.parametrize(
    "text,codes",
    [
        (REPORT, ("EE9999",)),
        (
            "[PID: 7] 2026-03-01-10:21:35.118.204 Communication_Error(EI0006): Getting socket times out.\n"
            "        Solution: x",
            ("EI0006",),
        ),
        ("EI0006: [PID: 7] 2026-03-01-10:21:35.118.204 Getting socket times out", ("EI0006",)),
        ("E19999: Inner Error!", ("E19999",)),
    ],
)
def test_bare_reports_of_cann_are_blocks(text: str, codes: tuple[str, ...]) -> None:
    (block,) = blocks("step 1\n" + text + "\nstep 2")
    assert (block.kind, block.codes, block.text) == ("report", codes, text)


def test_what_an_interpreter_prints_as_it_ends_is_no_block() -> None:
    ignored = "Exception ignored in: <function f at 0x1>\n" + TRACE % "AttributeError: x"
    assert [block.kind for block in blocks(REPORT + "\n\n" + ignored)] == ["report"]


SAID = """free(): invalid pointer
malloc(): unsorted double linked list corrupted
*** buffer overflow detected ***: terminated
python: nptl.c:10: f: Assertion `x' failed.
python: error while loading shared libraries: libascendcl.so: cannot open shared object file: No such file
/lib/libc.so.6: version `GLIBC_2.34' not found (required by x.so)
terminate called after throwing an instance of 'c10::Error'
panic: runtime error: index out of range [5]
thread 'main' panicked at src/main.rs:2:5:
forrtl: severe (174): SIGSEGV, segmentation fault occurred
Program received signal SIGSEGV: Segmentation fault - invalid memory reference.
bash: line 1: pyhton: command not found
run.sh: line 3: 4567 Killed                  python train.py
Segmentation fault (core dumped)
Bus error
[ 123.45] Out of memory: Killed process 77 (python)
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)
slurmstepd: error: Detected 1 oom_kill event in StepId=5.0
train.py: error: unrecognized arguments: --x
Fatal Python error: Bus error
[rank1]:[E ProcessGroupNCCL.cpp:523] watchdog
[rank1]:[E301 10:00:00.123456789 ProcessGroupNCCL.cpp:523] watchdog
F0301 10:00:00.123456 77 x.cc:5] Check failed
E0000 00:00:1732773181.123456 77 x.cc:5] Unable
2026-03-01 10:00:00.1: E tensorflow/core/x.cc:5] bad
[ERROR] TBE(7,python):2026-03-01-10:00:00.123.456 [x.py:1] bad
[ERROR] ME(7:8,MainProcess):2026-03-01-10:00:00.123.456 [x.py:1] bad
[CRITICAL] DISTRIBUTED(7,7f9fd5b43100,python):2026-03-01-10:00:00.123.456 [x.cc:1] Run] bad
[2026-03-01 10:00:00,123] [   ERROR] - bad
LAUNCH ERROR 2026-03-01 10:00:00,123 Container failed !!!
E0301 10:00:00.123000 4242 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: 1)
{"level":"error","ts":1772359205.1,"msg":"x"}
{"level":60,"time":1772359205123,"msg":"x"}
{"msg":"x","severity":"CRITICAL"}
time=2026-03-01T10:00:00Z level=fatal msg="x"
2026/03/01 10:00:05 [error] 123#0: *1 open() failed
\x1b[31m2026-03-01 10:00:00.1 | ERROR    | a:b:1 - x\x1b[0m
E       AssertionError: 1 != 2""".split("\n")
ORDINARY = """error rate 0.1
0 errors
loss_error=0.3
mean error: 0.12
AbsoluteError: 0.12
val: error 0.1
ERROR rate 0.2
2026-03-01 10:00:00 INFO main: no error, no ERROR
no ERROR so far
Killed 3 stale jobs
{"level":"info","msg":"error"}
{"level":30,"msg":"error"}
level=info msg="0 errors"
I0301 10:00:00.1 77 x.cc:5] no Error
0 Killed
Terminated
Errors may follow""".split("\n")
WARNINGS = """[W socket.cpp:752] The client socket has failed
[rank0]:[W301 10:00:00.123456789 x.cpp:5] Warning
[W compiler_depend.ts:487] Warning: NPU warning, error code is 507048[Error]:
[WARNING] DISTRIBUTED(7,ffffb85d0c80,python):2026-03-01-10:00:00.123.456 [x.cc:9] Finalize] 4 alive nodes.
[2026-03-01 10:00:00,123] [ WARNING] - error
LAUNCH WARNING 2026-03-01 10:00:00,123 master not ready
W0301 10:00:00.1 77 x.cc:5] error
2026-03-01 10:00:00.1: W tensorflow/x.cc:5] error
{"level":40,"msg":"x"}
level=warn msg=error
WARNING:root:error""".split("\n")


@pytest.mark.parametrize(
    "line,expected",
    [
        *((line, ERROR) for line in SAID),
        *((line, INFO) for line in ORDINARY),
        *((line, WARNING) for line in WARNINGS),
    ],
)
def test_a_line_is_an_error_by_its_level_or_by_the_words_of_what_prints_none(
    line: str, expected: int
) -> None:
    assert BlockReader().read(line.encode()).level == expected
    assert bool(blocks(line)) == (expected == ERROR)


@pytest.mark.parametrize(
    "line",
    [
        "[V20000] CORE(7,7fba8ba6eb80,python):2026-03-01-10:00:00.123.456 [x.cc:8] Tags] verbose",
        "[TRACE] GE(7,python):2026-03-01-10:00:00.123.456 [x.cc:8] verbose",
    ],
)
def test_verbose_lines_are_below_info(line: str) -> None:
    assert level(line.encode()) == 10


@pytest.mark.parametrize(
    "text", ["RuntimeError: a\nRuntimeError: b\nRuntimeError: c", "ERROR: a\nERROR: b", "1: a\n2: b"]
)
def test_what_repeats_but_means_something_is_no_prefix(text: str) -> None:
    reader, lines = PrefixReader(), text.encode().split(b"\n")
    reader.learn(lines)
    assert [reader.split(line).text for line in lines] == lines


WORDS = st.lists(
    st.sampled_from(
        [
            b"[rank0]: ",
            b"Traceback (most recent call last):",
            b'  File "x", line 1',
            b"ValueError: x",
            b"\n",
            b" ",
            b"{",
            b"}",
            b'{"log":"',
            b'"level":',
            b"ERROR",
            b"EE9999: ",
            b"[PID: 7] ",
            b"3: ",
            b"\x1b[31m",
            b"| ",
            b"E0301 10:00:00.1 ",
            b"terminate called after",
            b"\xff\xfe",
            b"  + Exception Group ",
        ]
    )
    | st.binary(max_size=8),
    max_size=30,
).map(b"".join)


@settings(deadline=None, max_examples=200)
@given(WORDS)
def test_no_text_breaks_the_search_for_blocks(text: bytes) -> None:
    for block in error_blocks(text.split(b"\n")):
        assert block.raised in block.text and block.lines
    assert level(text) in (10, INFO, WARNING, ERROR)
