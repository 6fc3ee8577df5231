"""Cases 53 to 64: what ranks write, and what stands in the way of it."""

from __future__ import annotations

import hashlib
import os
import pty
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.supervision.events import Event
from tests.faults.helpers import Job, until


def test_case_53_a_grandchild_that_holds_the_pipe_delays_nobody(job: Job) -> None:
    job.script(
        "print('rank done', flush=True)\nchild('import time; time.sleep(600)', start_new_session=True)"
    )
    assert job.run(2) == 0
    assert job.log(0) == b"rank done\n"
    job.gone()


@pytest.mark.parametrize("size", [1 << 20, 100 << 20])
def test_case_54_a_line_without_end_costs_no_memory(job: Job, size: int) -> None:
    job.script(f"for _ in range({size >> 20}): os.write(1, b'x' * (1 << 20))")
    # By way of a small program: the most that a process used counts from before exec, when it was pytest.
    small = "import subprocess, sys, resource as r; code = subprocess.call(sys.argv[1:])\n"
    small += "print('used', r.getrusage(r.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    job.start(1, prefix=[sys.executable, "-c", small])
    assert job.wait() == 0
    assert len(job.log()) == size
    used = [line.split()[1] for line in job.output.splitlines() if line.startswith("used ")]
    assert int(used[0]) < 100 << 10  # KB, of the launcher and its ranks
    assert "...(split)" in job.output


ODD = b"\0\x1b[31mred\x1b[0m \xff\xfe caf\xc3\xa9 \xed\xa0\x80 \r 10%\r 20%\r 30%\r\nwin\r\n\xe2\x82"


def test_case_55_bytes_are_kept_as_they_are_and_shown_without_harm(job: Job) -> None:
    job.script(f"os.write(1, {ODD!r}); time.sleep(0.2); os.write(1, b'\\xac no end')")
    assert job.run(1) == 0
    assert job.log() == ODD + b"\xac no end"
    shown = job.output
    assert "\x1b" not in shown and "\0" not in shown and "30%" in shown and "20%" not in shown
    assert "€ no end" in shown


def test_case_56_eight_ranks_flat_out_lose_nothing(job: Job) -> None:
    job.script(
        """
        line = b"rank %d line %%09d " % RANK + b"y" * 50 + b"\\n"
        for start in range(0, 100000, 1000):
            os.write(1, b"".join(line % n for n in range(start, start + 1000)))
        """
    )
    assert job.run(8) == 0
    for rank in range(8):
        line = b"rank %d line %%09d " % rank + b"y" * 50 + b"\n"
        wanted = hashlib.md5(b"".join(line % n for n in range(100000)))
        assert hashlib.md5(job.log(rank)).digest() == wanted.digest()


def test_case_57_a_console_that_nobody_reads_blocks_no_rank(job: Job) -> None:
    job.script("for n in range(100000): print('line', n, 'of rank', RANK, 'z' * 60)")
    job.start(2, stdout=subprocess.PIPE)
    until(lambda: len(job.events(Event.ENDED)) == 2)
    assert job.log(0).count(b"\n") == 100000
    out = job.process.communicate(timeout=30)[0]
    assert job.process.returncode == 0
    assert b"lines left out" in out


def test_case_57_a_stopped_terminal_blocks_no_rank(job: Job) -> None:
    job.script("for n in range(3000): print('line', n, 'of rank', RANK, 'z' * 60)")
    ours, theirs = pty.openpty()
    try:
        job.start(2, stdout=theirs)  # nobody reads it, as after Ctrl-S
        until(lambda: len(job.events(Event.ENDED)) == 2)
        os.close(theirs)
    finally:
        os.close(ours)
    assert job.log(0).count(b"\n") == 3000


def test_case_58_a_limit_on_file_size_costs_bytes_not_the_run(job: Job) -> None:
    job.script("for n in range(1000): os.write(1, b'%999d\\n' % n)")
    limit = 400000
    assert job.run(2, prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) == 0
    assert job.log(0) == b"".join(b"%999d\n" % n for n in range(400))
    said = (job.path / "logs" / "launcher.log").read_text()
    assert "600000 bytes of its output are not in" in said and "File too large" in said


def test_case_58_a_full_disk_costs_bytes_not_the_run(job: Job) -> None:
    runs = job.folder / "runs"
    runs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(runs)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        job.script("for n in range(2000): os.write(1, b'%999d\\n' % n)\nif RANK == 1: sys.exit(7)")
        assert job.run(2, "--skip-preflight", "disk") == 7
        assert "No space left on device" in job.output
        assert job.result["exit_code"] == 7 and "1999" in job.report
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=True)


def test_case_59_a_log_that_is_removed_or_cut_does_not_disturb_the_run(job: Job) -> None:
    job.script("os.write(1, b'first\\n'); wait_for('go'); os.write(1, b'second\\n')")
    job.start(2)
    for rank in (0, 1):
        job.says(rank, b"first")
    (job.path / "logs" / "rank_0.log").unlink()
    os.truncate(str(job.path / "logs" / "rank_1.log"), 0)
    (job.folder / "go").touch()
    assert job.wait() == 0
    index = (job.path / "logs" / "rank_1.index").read_text().splitlines()
    offset, length = map(int, index[-1].split()[2:])
    assert job.log(1)[offset : offset + length] == b"second\n"  # the index still tells where it is


@pytest.mark.parametrize("name", ["a b", 'quote\'s "x"', "line\nbreak", "café"])
def test_case_60_a_run_folder_may_have_an_odd_name(job: Job, name: str) -> None:
    job.folder = job.folder / name
    job.folder.mkdir()
    job.script("print('there', os.getcwd() is not None)")
    assert job.run(1) == 0
    assert job.log() == b"there True\n"


def test_case_60_a_run_folder_that_cannot_be_made_is_a_usage_error(job: Job) -> None:
    (job.folder / "file").write_text("")
    (job.folder / "loop").symlink_to("loop")
    for where in ("file", "loop"):
        assert job.run(1, f"runs_dir={where}/runs", command=["true"]) in (2, 78)
        assert where in job.output and "Traceback" not in job.output


def test_case_61_a_rank_may_close_or_redirect_its_output(job: Job) -> None:
    job.script(
        """
        print("before", flush=True)
        if RANK == 0:
            os.close(1); os.close(2)
        else:
            os.dup2(os.open("own.txt", os.O_CREAT | os.O_WRONLY), 1); os.write(1, b"elsewhere")
        time.sleep(0.4)
        os._exit(0)
        """
    )
    assert job.run(2) == 0
    assert job.log(0) == job.log(1) == b"before\n"
    assert (job.folder / "own.txt").read_bytes() == b"elsewhere"


def test_case_62_a_rank_has_no_terminal_of_its_own(job: Job) -> None:
    job.script("try: open('/dev/tty', 'w')\nexcept OSError as error: print('errno', error.errno)")
    assert job.run(2) == 0
    assert job.log(1) == b"errno 6\n"  # ENXIO


def test_case_63_stdin_is_empty_for_every_rank_but_the_chosen_one(job: Job) -> None:
    job.script("print(repr(sys.stdin.read()))")
    reading, writing = os.pipe()
    os.write(writing, b"typed")
    os.close(writing)
    job.start(3, "--stdin-rank", 1, stdin=reading)
    os.close(reading)
    assert job.wait() == 0
    assert [job.log(rank) for rank in range(3)] == [b"''\n", b"'typed'\n", b"''\n"]


def test_case_64_each_rank_keeps_its_order_and_the_index_its_times(job: Job) -> None:
    job.script(
        """
        for n in range(300):
            os.write(1 + n % 2, b"%d\\n" % n)
            if n % 50 == 0: time.sleep(0.02)
        """
    )
    assert job.run(4) == 0
    for rank in range(4):
        chunks = [line.split() for line in (job.path / "logs" / (f"rank_{rank}.index")).open()]
        times = [int(chunk[0]) for chunk in chunks]
        assert times == sorted(times)
        for stream in "oe":
            parts = [c for c in chunks if c[1] == stream]
            text = b"".join(job.log(rank)[int(c[2]) : int(c[2]) + int(c[3])] for c in parts)
            numbers = [int(word) for word in text.split()]
            assert numbers == list(range("oe".index(stream), 300, 2))


def test_max_log_bytes_keeps_the_beginning_and_the_end(job: Job) -> None:
    job.script("for n in range(20000): os.write(1, b'%9d\\n' % n)")
    assert job.run(2, "--max-log-bytes", 40000) == 0
    for rank in (0, 1):
        text = job.log(rank)
        assert text.startswith(b"".join(b"%9d\n" % n for n in range(2000)))
        assert text.endswith(b"".join(b"%9d\n" % n for n in range(19000, 20000)))
        assert len(text) <= 41000 and b"bytes left out here" in text
        assert _by_index(job.path / "logs" / (f"rank_{rank}")) == text
    assert not list(job.path.glob("logs/*.part*"))


def _by_index(path: Path) -> bytes:
    """Put a log together again by its index."""
    log = path.with_name(path.name + ".log").read_bytes()
    parts = [line.split() for line in path.with_name(path.name + ".index").open()]
    return b"".join(log[int(part[2]) : int(part[2]) + int(part[3])] for part in parts)


def test_equal_lines_of_several_ranks_are_shown_once(job: Job) -> None:
    job.script(
        """
        open("ready_%d" % RANK, "w").close()
        for rank in range(SIZE): wait_for("ready_%d" % rank)
        os.write(1, b"the same\\n")
        time.sleep(0.5)
        os.write(1, b"of %d\\n" % RANK)
        """
    )
    assert job.run(4) == 0
    lines = [line.partition("| ")[2] for line in job.output.splitlines()]
    assert 1 <= lines.count("the same") < 4  # on a busy machine they may come more than a window apart
    assert b"".join(job.log(rank) for rank in range(4)).count(b"the same") == 4
    assert {"of 0", "of 1", "of 2", "of 3"} <= set(lines)


def test_show_and_quiet_choose_what_reaches_the_console_alone(job: Job) -> None:
    job.script("print('words of', RANK)")
    assert job.run(3, "--show-ranks", "1") == 0
    assert "words of 1" in job.output and "words of 0" not in job.output
    assert job.log(0) == b"words of 0\n"
    assert job.run(3, "--quiet") == 0
    assert "words of" not in job.output
