"""metrics.jsonl as it may have been written, and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.metrics.series import Series, parse, read, read_last, record
from launcher.view.follow import last_row


@pytest.mark.parametrize(
    ("text", "series"),
    [
        (b"", Series(())),
        (b'{"step": 1, "a": 2.5}\n{"step": 2, "a": null}\n', Series(({"step": 1, "a": 2.5}, {"step": 2}))),
        (b'{"step": 1}\n{"step": 2, "los', Series(({"step": 1},), 1)),  # the last line is being written
        (b'{"step": 1, "note": "a", "skip": true}\n[1]\n{"loss": 1}\n\xff\n', Series(({"step": 1},), 3)),
        (b'{"step": 1, "los": NaN, "rate": 1e999}\n{"step": 1e400}', Series(({"step": 1},), 1)),
        (b"[" * 100000, Series((), 1)),
    ],
    ids=range(6),
)
def test_rows_are_objects_with_a_step_and_numbers(text: bytes, series: Series) -> None:
    assert parse(text) == series


def test_a_restart_takes_back_what_was_written_after_its_checkpoint() -> None:
    lines = [f'{{"step": {step}, "attempt": 0}}' for step in (10, 20, 30)]
    lines += [f'{{"step": {step}, "attempt": 1}}' for step in (20, 25)]
    found = parse("\n".join(lines).encode())
    assert [(row["step"], row["attempt"]) for row in found.rows] == [(10, 0), (20, 1), (25, 1)]


def test_a_loss_that_was_lost_is_known_until_its_step_comes_again() -> None:
    text = b'{"step": 1, "loss": 3}\n{"step": 2}\n{"step": 3, "loss": null}\n{"step": 4, "loss": null}'
    evaluated = b'\n{"step": 4, "eval_f1": 1}\n{"step": 4, "eval_exact": 1}'
    assert parse(text + evaluated).lost == {3, 4}  # and not 2, whose loss was not asked for
    assert parse(text + b'\n{"step": 3, "loss": 2}').lost == frozenset()
    assert parse(b'{"step": 1, "loss": NaN}').lost == {1}


def test_what_was_evaluated_after_a_step_is_no_row_of_the_training(tmp_path: Path) -> None:
    """It would take back the row of the same step, and its loss would count as no number."""
    evaluated = b'{"step": 20, "eval_f1": 63.5, "eval_exact": null, "time": 9}\n'
    rows = b'{"step": 10, "loss": 3, "eval_s": 1}\n{"step": 20, "loss": 2}\n'
    found = parse(rows + evaluated)
    assert [row["step"] for row in found.rows] == [10, 20] and found.unread == 0
    assert found.evaluations == ({"step": 20, "eval_f1": 63.5, "time": 9},)
    assert record(evaluated) is None and record(rows.splitlines()[0]) is not None
    assert parse(rows + evaluated + b'{"step": 20, "loss": 2}').evaluations == ()  # the step came again
    (tmp_path / "metrics.jsonl").write_bytes(rows + evaluated)
    assert last_row(tmp_path / "metrics.jsonl") == {"step": 20, "loss": 2}


def test_the_last_rows_of_a_long_file_are_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}}}\n' for step in range(1000)))
    assert [row["step"] for row in read_last(path, 45).rows] == [997, 998, 999]
    assert len(read_last(path).rows) == len(read(path).rows) == 1000
