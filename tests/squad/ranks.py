"""The program on several ranks, forked from a process that has imported TensorFlow, without npu-launch."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from tests.adapter import ranks
from tests.forked import Forked
from tests.launching import ROOT


def run_squad(folder: Path, size: int, words: Sequence[str]) -> str:
    """Run squad/run_squad.py on some ranks of this host, all of which succeed; return what they wrote."""
    folder.mkdir(exist_ok=True)
    env = {"NPU_LAUNCH_BACKEND": "cpu", "PYTHONPATH": str(ROOT)}
    program = str(ROOT / "squad" / "run_squad.py")
    ended = ranks.run(folder, program, size, env, words, forked=Forked)
    assert ended.codes == [0] * size, ended.output
    return "".join(ended.output)
