"""heartbeat.json of a rank, as `ps` and result.json show it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.launching import latest, launch

PROGRAM = """
import json, os
from bert.heartbeat import beat
if os.environ["RANK_ID"] == "0":
    for step in range(1, 481):
        beat("train", step)
    for step in range(1, 14):
        beat("predict", step)
    beat("answers")
else:  # a program of one's own
    with open(os.path.join(os.environ["NPU_LAUNCH_RANK_DIR"], "heartbeat.json"), "w") as stream:
        json.dump({"step": 481}, stream)
"""


def test_the_last_training_step_is_shown_after_phases_that_count_their_own(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(PROGRAM)
    done = launch(tmp_path, "--devices", "0-1", "--backend", "cpu", "--", "python", "job.py")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((latest(tmp_path) / "result.json").read_text())
    assert [rank["step"] for rank in result["ends"]] == [480, 481]
    rows = json.loads(launch(tmp_path, "ps", "--json").stdout)  # with runs of this host from other folders
    (row,) = [row for row in rows if row["path"] == str(latest(tmp_path))]
    assert row["step"] == 480
    beat = json.loads((latest(tmp_path) / "ranks" / "0" / "heartbeat.json").read_text())
    assert (beat["step"], beat["phase"]) == (0, "answers")  # what tells a phase that may take any time
