"""Signals behind exit codes, and in the words of whoever started the process."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.diagnosis.exit_codes import signal_said
from launcher.diagnosis.failure import RankEnd, RankStatus
from launcher.diagnosis.verdict import judge
from launcher.ui.report import cause


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (134, 6), (135, 7), (136, 8), (137, 9), (139, 11), (143, 15), (130, 2), (129, 1), (141, 13),
        (-11, 11), (-40, 40), (250, 6), (249, 7), (248, 8), (247, 9), (245, 11), (241, 15),
        (255, 0), (254, 0), (0, 0), (1, 0), (127, 0), (128, 0), (192, 0), (None, 0),
    ],
)  # fmt: skip
def test_the_signal_behind_an_exit_code(code: Any, number: int) -> None:
    end = RankEnd(0, 0, pid=71, code=code)
    assert end.signal == number and end.as_dict()["signal"] == (number or None)
    if code:
        judged = judge([end], None)[0][0]
        assert judged.status is (RankStatus.SIGNALLED if number else RankStatus.EXITED)
        assert judged.code == code and ("SIG" in cause(judged)) is (0 < number < 32)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("subprocess.CalledProcessError: Command 'x' died with <Signals.SIGSEGV: 11>.", 11),
        ("CalledProcessError: Command 'x' returned non-zero exit status 139.", 11),
        ("CalledProcessError: Command 'x' returned non-zero exit status 1.", 0),
        ("run.sh: line 3:    71 Segmentation fault      (core dumped) python train.py", 11),
        ("run.sh: line 3:    71 Killed                  python train.py", 9),
        ("Aborted (core dumped)", 6),
        ("Bus error", 7),
        ("ProcessExitedException: process 0 terminated with signal SIGKILL", 9),
        ("failed (exitcode: -8) local_rank: 0 (pid: 71) of binary: python", 8),
        ("traceback : Signal 6 (SIGABRT) received by PID 71", 6),
        ("RuntimeError: DataLoader worker (pid 71) is killed by signal: Killed.", 9),
        ("AbortedError: step 3 was Aborted by the user, 4 were Killed by it", 0),
        ("", 0),
    ],
)
def test_a_signal_in_the_words_of_its_parent(text: str, number: int) -> None:
    assert signal_said(text) == number
