"""Start-up notices of TensorFlow: in the log of a rank, not on the console. Samples of three versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.ui.console import StreamLines
from tests.launching import latest, launch

# By version of TensorFlow: 2.21, 2.6.5, 1.15.5, and 2.x with CUDA.
SAMPLES = Path(__file__).parent / "notices.txt"
VERSIONS = [part.splitlines() for part in SAMPLES.read_bytes().split(b"\n\n")]
TENSORFLOW_2_21, _, TENSORFLOW_1_15, _ = VERSIONS
FAILED = b"2026-11-28 11:19:40.589814: W tensorflow/core/op_kernel.cc:1767] OP_REQUIRES failed at x.cc:1"
SHOWN = [
    b"step 1 loss 2.5",
    b"WARNING:tensorflow:From job.py:9: where (from tensorflow.python.ops.array_ops) is deprecated and will "
    b"be removed in a future version.",
    b"Instructions for updating:",
    b"Use tf.where in 2.0, which has the same broadcast rule as np.where",
    FAILED,
    b"2026-11-28 11:11:38.006419: W tensorflow/stream_executor/cuda/cuda_driver.cc:269] failed call to "
    b"cuInit: CUDA_ERROR_OUT_OF_MEMORY",
    b"2026-11-28 11:11:34.343070: W tensorflow/core/platform/default/dso_loader.cc:64] Could not load "
    b"dynamic library 'libhccl.so'; dlerror: libhccl.so: "
    b"cannot open shared object file: No such file or directory",
    b"To enable them in other operations, rebuild TensorFlow with the appropriate compiler flags.",  # alone
    b"loss 2.5 WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
]


def text(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


@pytest.mark.parametrize("notices", VERSIONS)
@pytest.mark.parametrize("size", [7, 1 << 18])
def test_notices_are_left_out_however_they_arrive(notices: list[bytes], size: int) -> None:
    data = text([b"before", *notices, *notices, b"after"])
    lines = StreamLines()
    assert [
        line for begin in range(0, len(data), size) for line in lines.feed(data[begin : begin + size])
    ] == [b"before", b"after"]


def test_everything_else_is_shown_between_notices_too() -> None:
    lines = StreamLines()
    assert lines.feed(text(SHOWN)) == SHOWN
    for notices in VERSIONS:
        shown = lines.feed(text([line for notice in notices for line in (notice, FAILED)]))
        assert shown.count(FAILED) == len(notices)


def test_the_log_of_a_rank_and_the_logs_command_have_them(tmp_path: Path) -> None:
    written = text([*TENSORFLOW_2_21, *TENSORFLOW_1_15, b"ready"])
    (tmp_path / "sample").write_bytes(written)
    (tmp_path / "job.py").write_text("import sys\nsys.stderr.buffer.write(open(sys.argv[1], 'rb').read())\n")
    words = ["--devices", "0-1", "--backend", "cpu", "--", "python", "job.py", tmp_path / "sample"]
    done = launch(tmp_path, *words)
    ranks = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if "| " in line]
    assert done.returncode == 0 and ranks == ["[0-1]| ready"], done.stdout
    for rank in (0, 1):
        assert (latest(tmp_path) / "logs" / f"rank_{rank}.log").read_bytes() == written
    logged = launch(tmp_path, "logs", "--rank", "0").stdout.splitlines()
    assert [line.partition("| ")[2].encode() for line in logged] == written.splitlines()
