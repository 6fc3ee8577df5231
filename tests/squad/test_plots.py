"""The plots of the evaluation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from squad import evaluate


def run(shared: Path, *options: object, prelude: str = "") -> subprocess.CompletedProcess:
    golden = shared / "golden" / "evaluate"
    program = f"{prelude}\nimport sys; from squad.evaluate import main; sys.exit(main(sys.argv[1:]))"
    command: list[str] = [sys.executable, "-c", program, str(shared / "data" / "squad2" / "dev.json")]
    command += [str(golden / "predictions_1.json"), *map(str, options)]
    root = Path(evaluate.__file__).parents[1]
    return subprocess.run(command, capture_output=True, text=True, cwd=str(root))


def odds(shared: Path) -> list[object]:
    return ["--na-prob-file", shared / "golden" / "evaluate" / "null_odds_1.json", "--out-image-dir"]


def test_writes_five_plots_and_the_average_precisions(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    done = run(shared, *odds(shared), tmp_path / "images")
    assert done.returncode == 0, done.stderr
    names = ["na_prob_hist_hasAns", "na_prob_hist_noAns", "pr_exact", "pr_f1", "pr_oracle"]
    assert sorted(path.stem for path in (tmp_path / "images").iterdir()) == names
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in (tmp_path / "images").iterdir())
    figures = json.loads(done.stdout)
    assert 0 < figures["pr_exact_ap"] <= figures["pr_f1_ap"] <= figures["pr_oracle_ap"] <= 100


def test_says_plainly_that_matplotlib_is_missing_and_still_prints_the_figures(
    shared: Path, tmp_path: Path
) -> None:
    done = run(shared, *odds(shared), tmp_path, prelude="import sys; sys.modules['matplotlib'] = None")
    assert done.returncode == 2
    assert done.stderr == "evaluate: plots need matplotlib; run `pip install matplotlib`\n"
    assert "pr_f1_ap" in json.loads(done.stdout)


def test_plots_without_no_answer_scores_are_refused(shared: Path, tmp_path: Path) -> None:
    done = run(shared, "--out-image-dir", tmp_path)
    assert done.returncode == 2 and "give --na-prob-file" in done.stderr


def test_average_precision_of_a_small_case_by_hand() -> None:
    has_answer = {"a": True, "b": False, "c": True}
    curve = evaluate.precision_recall({"a": 1, "b": 0, "c": 0.5}, {"a": 0.1, "b": 0.2, "c": 0.3}, has_answer)
    assert curve.precisions == [1.0, 1.0, 0.5, 0.5]
    assert curve.recalls == [0.0, 0.5, 0.5, 0.75]
    assert curve.average == pytest.approx(100 * (0.5 + 0 + 0.125))


def test_questions_of_equal_score_are_one_point_of_the_curve() -> None:
    curve = evaluate.precision_recall({"a": 1, "b": 1}, {"a": 0.1, "b": 0.1}, {"a": True, "b": True})
    assert curve.recalls == [0.0, 1.0]
