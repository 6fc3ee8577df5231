"""Running the evaluation script that the user gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from squad import evaluate
from squad.answers.official_script import differences, run
from squad.errors import DataError


def script(folder: Path, body: str) -> str:
    path = folder / "evaluate-v9.py"
    path.write_text("import sys\n" + body)
    return str(path)


def test_reads_the_figures_that_the_script_prints(shared: Path) -> None:
    dev = str(shared / "data" / "squad2" / "dev.json")
    predictions = str(shared / "golden" / "evaluate" / "predictions_1.json")
    figures = run(evaluate.__file__, dev, predictions)
    assert figures["exact"] == 57.534246575342465 and figures["NoAns_total"] == 705


def test_finds_the_figures_among_other_output(tmp_path: Path) -> None:
    path = script(tmp_path, "print('reading', sys.argv[1:]); print('{\"f1\": 7.5, \"exact_match\": 5}')")
    assert run(path, "dev.json", "predictions.json") == {"f1": 7.5, "exact_match": 5.0}


@pytest.mark.parametrize(
    "body, message",
    [
        ("raise KeyError('q1')", "failed with exit code 1: KeyError: 'q1'"),
        ("sys.exit(3)", "failed with exit code 3: no message on stderr"),
        ("print('fine')", "printed no JSON of figures: 'fine"),
        ("print('{\"f1\": null}')", "printed no JSON of figures"),
    ],
)
def test_a_script_that_fails_is_one_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run(script(tmp_path, body), "dev.json", "predictions.json")


def test_names_the_figures_that_differ() -> None:
    assert differences({"f1": 50.0, "exact": 1.0}, {"f1": 50.5, "exact": 1.0 + 1e-12, "other": 3.0}) == [
        "f1: ours 50.0, theirs 50.5"
    ]


def test_cmrcs_script_has_the_names_of_squads_and_three_decimals(tmp_path: Path) -> None:
    printed = '{"AVERAGE": "46.667", "F1": "60.000", "EM": "33.333", "TOTAL": 3, "SKIP": 1, "FILE": "p.json"}'
    theirs = run(script(tmp_path, f"print({printed!r})"), "dev.json", "p.json")
    assert theirs == {"average": 46.667, "f1": 60.0, "exact": 33.333, "total": 3}
    assert not differences({"exact": 100 / 3, "f1": 60.0}, theirs)
    assert differences({"exact": 33.3}, theirs) == ["exact: ours 33.3, theirs 33.333"]
