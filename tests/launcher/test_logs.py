"""npu-launch logs on the logs of runs: exact order, nothing lost, every option, bounded memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.commands.logs import logs
from launcher.logs import format, rank_reader, records, view
from launcher.logs.collapse import collapsed
from launcher.logs.records import RecordBatch, split_lines
from launcher.logs.view import LogSource, Query
from launcher.logs.writer import CappedLogWriter
from launcher.run_dir import RunDir
from launcher.runs.locks import hold
from tests.launcher.log_makers import BEGIN, MS, Chunk, make_run
from tests.launching import ROOT, launch


def shown(run: RunDir, **query: Any) -> list[tuple[int, str, str]]:
    """Return the lines of a query as (ms after BEGIN, label, text)."""
    batches = view.show([LogSource(run.path)], Query(**query), False)
    records = split_lines([record for batch in batches for record in batch])
    return [((when - BEGIN) // MS, label.decode(), text.decode()) for when, label, _, text in records]


@st.composite
def chunks(draw: Any) -> list[Chunk]:
    """Draw what a rank writes: parts of lines on two streams, at times that do not go back."""
    texts = st.sampled_from([b"a\n", b"b\nc\n", b"part", b"\n", b"x" * 50 + b"\n", b"\n\ny", b"long " * 30])
    parts = draw(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("oe"), texts), max_size=12))
    when, found = 0, []
    for step, stream, text in parts:
        when += step
        found.append((when, stream, text))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ranks=st.lists(chunks(), min_size=1, max_size=4), small=st.booleans())
def test_case_64_the_merge_is_in_the_order_of_time_and_loses_no_byte(
    ranks: list[list[Chunk]], small: bool, tmp_path_factory: Any
) -> None:
    run = make_run(tmp_path_factory.mktemp("runs") / "job-1", ranks)
    with pytest.MonkeyPatch.context() as patch:
        if small:  # every border of batches is met
            patch.setattr(rank_reader, "INDEX_BYTES", 80)
            patch.setattr(rank_reader, "BATCH_BYTES", 60)
        found = [r for batch in view.show([LogSource(run.path)], Query(), False) for r in batch]
    times = [record[0] for record in found]
    assert times == sorted(times)
    for rank, written in enumerate(ranks):
        for stream in "oe":
            text = b"".join(data for _, s, data in written if s == stream)
            mine = [r[3] for r in found if r[1] == b"%d" % rank and r[2] == stream.encode()]
            assert b"".join(line + b"\n" for line in mine) == text + (
                b"" if text[-1:] in (b"\n", b"") else b"\n"
            )


def test_a_line_has_the_time_at_which_it_ended_and_ranks_interleave(tmp_path: Path) -> None:
    first = [(0, "o", b"begin"), (30, "o", b" end\n"), (40, "e", b"oops\n")]
    run = make_run(tmp_path / "job-1", [first, [(20, "o", b"one\n"), (35, "o", b"two\nthree\n")]])
    assert shown(run) == [
        (20, "1", "one"),
        (30, "0", "begin end"),
        (35, "1", "two"),
        (35, "1", "three"),
        (40, "0", "oops"),
    ]


def test_what_two_streams_write_at_the_same_time_is_not_mixed_within_a_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[(0, "o", b"out"), (1, "e", b"err\n"), (2, "o", b"put\n")]])
    assert shown(run) == [(1, "0", "err"), (2, "0", "output")]


def test_a_progress_bar_shows_its_last_state(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[(0, "e", b" 10%\r 20%\r"), (1, "e", b"100%\r\nnext\r\n")]])
    assert shown(run) == [(1, "0", "100%"), (1, "0", "next")]


def test_case_65_a_clock_that_goes_back_changes_no_ranks_order(tmp_path: Path) -> None:
    first = [(100, "o", b"one\n"), (20, "o", b"two\n"), (130, "o", b"three\n")]
    run = make_run(tmp_path / "job-1", [first, [(50, "o", b"x\n"), (120, "o", b"y\n")]])
    assert shown(run) == [
        (50, "1", "x"),
        (100, "0", "one"),
        (100, "0", "two"),
        (120, "1", "y"),
        (130, "0", "three"),
    ]


def test_a_line_without_end_is_shown_in_parts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[(n, "o", b"x" * 50000) for n in range(10)]])
    lines = shown(run)
    assert all(len(text) <= records.LONGEST_LINE + 20 for _, _, text in lines)
    assert sum(text.count("x") for _, _, text in lines) == 500000


def test_a_file_s_name_steers_no_terminal_either() -> None:
    label, text = "a\x1b[2J\u202eb.log", "x\x9b\u202e\x7f"
    batch = [(0, label.encode(), b"f", text.encode())]
    assert b"a\\u202eb.log| x" in format.TextFormat()(batch)
    line = format.as_json(batch).decode()
    assert json.loads(line)["source"] == label and json.loads(line)["text"] == text
    assert line.isascii()


def test_bytes_that_steer_a_terminal_are_shown_as_text() -> None:
    batch: RecordBatch = [(BEGIN, b"0", b"o", b"ok\x1b[2Jgone\x00\n\xff\tbad \xe4\xbd\xa0")]
    text = format.TextFormat()(batch).decode()
    assert "\x1b" not in text and "\x00" not in text
    assert "\\xff\tbad 你" in text and text.count("\n") == 2


def test_an_index_that_a_full_disk_cut_off_still_gives_the_rest(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[(0, "o", b"one\n"), (1, "o", b"two\n"), (2, "o", b"three\n")]])
    text = run.index(0).read_bytes().splitlines()
    run.index(0).write_bytes(text[0] + b"\n" + text[1][:12] + b"\n" + text[2] + b"\n179000000")
    assert [line for _, _, line in shown(run)] == ["one", "three"]


def test_a_log_whose_index_is_lost_is_read_by_its_own_times(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[(0, "o", b"2026-03-01 10:21:35.5 one\n")], [(0, "o", b"two\n")]])
    run.index(0).unlink()
    assert {line for _, _, line in shown(run)} == {"2026-03-01 10:21:35.5 one", "two"}


def test_a_rank_that_has_a_log_but_no_index_yet_is_followed_by_its_index(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[(0, "o", b"one\n")]])
    run.result.unlink()
    with hold((), run):  # as the launcher of the run
        late = run.index(0).read_bytes()
        run.index(0).unlink()
        following = view.Follower([LogSource(run.path)], Query(tail=5))
        assert not any(following.existing())
        run.index(0).write_bytes(late)
        assert [text for batch in following.existing() for _, _, _, text in batch] == [b"one"]


def test_a_line_that_is_too_young_is_shown_at_a_later_look_though_nothing_follows_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "job-1", [[]])
    run.result.unlink()
    with hold((), run):
        following = view.Follower([LogSource(run.path)], Query())
        run.log(0).write_bytes(b"one\n")
        run.index(0).write_bytes(b"%d o 0 4\n" % (time.time_ns() + 10**9))
        assert not any(following.existing())
        end = time.monotonic() + 30
        while not any(following.existing()):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_ranks_streams_and_patterns_choose_lines(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "job-1",
        [[(n, "oe"[n % 2], b"rank %d line %d\n" % (r, n)) for n in range(4)] for r in range(3)],
    )
    assert {label for _, label, _ in shown(run, ranks=(0, 2))} == {"0", "2"}
    assert {when for when, _, _ in shown(run, stream="e")} == {1, 3}
    assert shown(run, grep=r"1 line [23]") == [(2, "1", "rank 1 line 2"), (3, "1", "rank 1 line 3")]


def test_a_level_keeps_whole_tracebacks_and_what_is_more_serious(tmp_path: Path) -> None:
    text = (
        b"step 1\nWARNING:root:slow\nINFO:root:fine, no ERROR\nTraceback (most recent call last):\n"
        b'  File "x.py", line 1, in f\n    boom()\nValueError: bad\nafter\n'
        b"2026-03-01 10:21:35.123456: W tensorflow/core/x.cc:1] low memory\n"
        b"W0301 10:21:35.123456 77 x.py:1] absl warns\n"
        b"[ERROR] HCCL(77,python):2026-03-01-10:21:35.123.456 x\n"
        b"[INFO] HCCL(77,python):2026-03-01-10:21:35.123.456 x\nSegmentation fault (core dumped)\n"
    )
    run = make_run(tmp_path / "job-1", [[(0, "o", text)]])
    errors = [line.split()[0] for _, _, line in shown(run, level=40)]
    assert errors == ["Traceback", "File", "boom()", "ValueError:", "[ERROR]", "Segmentation"]
    warnings = [line for _, _, line in shown(run, level=30)]
    assert len(warnings) == len(errors) + 3 and "INFO:root:fine, no ERROR" not in warnings


def test_equal_lines_of_several_ranks_become_one_and_each_ranks_order_stays(tmp_path: Path) -> None:
    same = [(0, "o", b"start\n"), (100, "o", b"step\n"), (200, "o", b"step\n"), (900, "o", b"end\n")]
    run = make_run(tmp_path / "job-1", [same, same, [*same[:3], (950, "o", b"odd\n"), (1300, "o", b"end\n")]])
    assert shown(run, collapse=True) == [
        (0, "[0-2]", "start"),
        (100, "[0-2]", "step"),
        (200, "[0-2]", "step"),
        (900, "[0-1]", "end"),
        (950, "2", "odd"),
        (1300, "2", "end"),
    ]


def test_collapsing_while_following_holds_no_line_longer_than_the_window() -> None:
    now = time.time_ns()
    batches = iter([[(now - 10**9, b"0", b"o", b"old"), (now, b"1", b"o", b"new")], []])
    first = next(collapsed(batches, live=True))
    assert [record[3] for record in first] == [b"old"]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: Any) -> RunDir:
    """Make a run whose indexes are much longer than a batch, some lines in two chunks."""
    folder = tmp_path_factory.mktemp("long") / "job-1"
    ranks = [
        [
            (2 * n + rank, "oe"[n % 2], b"%d line %d %s" % (rank, n, b"" if n % 7 == 0 else b"\n"))
            for n in range(3000)
        ]
        for rank in range(2)
    ]
    return make_run(folder, ranks)


@pytest.mark.parametrize("since,until", [(0, 500), (1, 1), (2999, 3100), (5000, 99999), (6500, 0), (777, 0)])
def test_times_found_by_halving_are_those_of_a_full_scan(long_run: RunDir, since: int, until: int) -> None:
    lower, upper = BEGIN + since * MS, BEGIN + until * MS if until else 0
    wanted = [line for line in shown(long_run) if since <= line[0] and (not until or line[0] <= until)]
    assert shown(long_run, since=lower, until=upper) == wanted


@pytest.mark.parametrize("count", [0, 1, 7, 500, 100000])
def test_the_tail_is_the_end_of_the_whole(long_run: RunDir, count: int) -> None:
    everything = shown(long_run)
    assert shown(long_run, tail=count) == everything[len(everything) - min(count, len(everything)) :]
    errors = [line for line in everything if line[1] == "1"]
    assert shown(long_run, tail=count, grep="^1") == errors[len(errors) - min(count, len(errors)) :]


def test_the_tail_reads_the_end_alone(long_run: RunDir) -> None:
    reader = rank_reader.RankReader(long_run, 0)
    reader.skip_to_last(10)
    assert sum(len(batch) for batch in reader.batches()) < 400


def test_the_command_line_prints_times_ranks_and_json(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "job-1", [[(0, "o", b"hello\n")], [(5, "e", b"world\n")]])
    done = launch(tmp_path, "logs", env={"TZ": "UTC"})
    assert done.stdout == "14:13:20.000 0| hello\n14:13:20.005 1| world\n" and done.returncode == 0
    dated = launch(tmp_path, "logs", "job", "--date", "--rank", "1", env={"TZ": "UTC"})
    assert dated.stdout == "2026-09-21 14:13:20.005 1| world\n"
    rows = [json.loads(line) for line in launch(tmp_path, "logs", "--json").stdout.splitlines()]
    assert rows[1]["rank"] == 1 and rows[1]["stream"] == "stderr" and rows[1]["text"] == "world"
    assert rows[1]["time_ns"] == BEGIN + 5 * MS


def test_times_on_the_command_line_are_relative_absolute_or_of_the_day(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "job-1", [[(n * 1000, "o", b"second %d\n" % n) for n in range(100)]])

    def seconds(*words: str) -> list[int]:
        done = launch(tmp_path, "logs", *words, env={"TZ": "UTC"})
        assert done.returncode == 0, done.stderr
        return [int(line.split()[-1]) for line in done.stdout.splitlines()]

    assert seconds("--since", "+98s") == [98, 99]
    assert seconds("--since=-1500ms") == [98, 99]
    assert seconds("--since", "14:14:59") == [99]
    assert seconds("--until", "2026-09-21T14:13:20Z") == [0]
    assert seconds("--until", "2026-09-21T16:13:21+02:00") == [0, 1]
    assert seconds("--since", "1790000097.5") == [98, 99]
    assert seconds("--since", "5m") == ([] if time.time() > BEGIN / 1e9 + 400 else seconds())


@pytest.mark.parametrize(
    "words,says",
    [
        (("--rank", "7"), "--rank: job-1 has no log of rank 7; it has 0-0"),
        (("--since", "soon"), "--since: 'soon': invalid time; expected one such as 10m"),
        (("--grep", "["), "--grep: '['"),
        (("nope",), "nope: no such run; runs has job-1"),
        (("empty",), "neither a run folder nor logs"),
    ],
)
def test_invalid_options_are_refused_in_one_line(
    tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    make_run(tmp_path / "runs" / "job-1", [[(0, "o", b"x\n")]])
    (tmp_path / "empty").mkdir()
    name = () if words in (("nope",), ("empty",)) else ("job-1",)
    done = launch(tmp_path, "logs", *name, *words)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "job-1", [[(n, "o", b"x" * 1000 + b"\n") for n in range(2000)]])
    command = [sys.executable, "-m", "launcher", "logs"]
    process = subprocess.Popen(
        command,
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == -signal.SIGPIPE
    process.stderr.close()


@pytest.mark.parametrize("lines", [1, 2000])
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, lines: int) -> None:
    make_run(tmp_path / "runs" / "job-1", [[(n, "o", b"x" * 1000 + b"\n") for n in range(lines)]])
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "launcher", "logs"], cwd=str(tmp_path), timeout=60,
            env=dict(os.environ, PYTHONPATH=str(ROOT)), stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (125, b"npu-launch: stdout: No space left on device\n")


def test_a_program_that_calls_the_command_keeps_its_signals(tmp_path: Path) -> None:
    (tmp_path / "rank_0.log").write_text("a line\n")
    before = signal.getsignal(signal.SIGPIPE)
    assert CliRunner().invoke(logs, [str(tmp_path)]).exit_code == 0
    assert signal.getsignal(signal.SIGPIPE) is before is signal.SIG_IGN


_PEAK = """
import sys
from launcher.cli import main
try:
    main()
finally:  # ru_maxrss would count the memory of the process that forked this one
    with open("/proc/self/status") as status:
        sys.stderr.write([line.split()[1] for line in status if line.startswith("VmHWM")][0])
"""


def test_memory_does_not_grow_with_the_logs(tmp_path: Path) -> None:
    def peak(name: str, chunks: int) -> int:
        line = b"step 100 loss 2.25 examples/s 700 learning rate 5e-5\n"
        run = make_run(tmp_path / name, [((n, "o", line * 1000) for n in range(chunks)) for _ in range(2)])
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, "logs", str(run.path)],
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        return int(done.stderr)  # KB

    small, large = peak("small", 20), peak("large", 600)  # 2 MB and 60 MB of log
    assert large < small + 4 * 1024


def test_the_end_of_a_log_with_a_limit_is_shown_before_the_run_has_ended(tmp_path: Path) -> None:
    """A launcher that was killed never puts the parts together, and its last lines are what one looks for."""
    run = make_run(tmp_path / "job-1", [[], [(70, "o", b"the other rank\n")]])
    files = CappedLogWriter(str(run.log(0)), str(run.index(0)), 200)
    for number in range(100):
        files.append("o", memoryview(b"line %4d\n" % number), BEGIN + number * MS)
    lines = shown(run)
    assert [when for when, _, _ in lines] == sorted(when for when, _, _ in lines)
    assert lines[0] == (0, "0", "line    0") and lines[-1] == (99, "0", "line   99")
    assert (70, "1", "the other rank") in lines
    assert rank_reader.span_of(run, [0, 1])[1] == BEGIN + 99 * MS
    assert shown(run, tail=2) == [(98, "0", "line   98"), (99, "0", "line   99")]
    files.close()
    assert shown(run)[-1] == (99, "0", "line   99")
