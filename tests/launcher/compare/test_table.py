"""A comparison as lines, as a JSON document, and as a page."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import lists

from launcher.compare import document, page, table
from launcher.compare.comparison import Comparison, Side, compare
from launcher.compare.curve import Curve
from tests.launcher.compare.curves import by_step, curve, falling
from tests.launcher.compare.test_align import curves


def beside(a: Curve, b: Curve, **given: Any) -> Comparison:
    return compare([Side("A", "runs/a", a)], Side("B", "b.log", b), **given)


def text(found: Comparison, width: int = 160) -> str:
    return "\n".join(table.lines(found, width))


def test_the_table_says_both_runs_the_figures_and_the_verdict() -> None:
    found = beside(
        curve(falling(50), ranks=8, global_batch=32, scores={"exact": 73.0, "f1": 76.0}),
        curve(falling(50, lambda place: 1.05), scores={"exact": 73.5, "f1": 76.5, "HasAns_f1": 70.0}),
    )
    shown = text(found)
    for line in (
        "A  runs/a  test  50 points, 8 devices, global batch 32",
        "loss, by examples: 100 to 5,000",
        "beyond 1% first at 100 examples; for good from 100 examples: the last 50 of 50 places; the first",
        "examples/s: not compared",
        "verdict: B against A: fail (loss of fine-tuning); not judged: benchmark",
    ):
        assert line in shown
    assert [" ".join(line.split()) for line in shown.split("\n") if "F1" in line] == [
        "F1 76.000 76.500 +0.500", "HasAns F1 - 70.000 -",
    ]  # fmt: skip


def test_what_cannot_be_judged_is_one_line_and_the_rest_is_there() -> None:
    shown = text(beside(by_step([1.0] * 9), curve([1.0] * 9, scores={"f1": 70.0})))
    assert "loss: not compared\n" in shown and "give --global-batch A=N" in shown
    assert "verdict: B against A: not judged" in shown


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_fit_the_terminal_and_lose_nothing(width: int) -> None:
    word = "x" * 150
    found = compare([Side("A", word, curve(falling(20)))], Side("B", "b", curve(falling(20))))
    lines = table.lines(found, width)
    assert max(map(len, lines)) <= width
    assert "".join(line.strip() for line in lines if "x" in line).count("x") >= 150


def test_a_mean_of_three_runs_names_them_all_and_the_band() -> None:
    sides = [Side(name, f"run{name}", curve(falling(20, lambda place, by=by: by)))  # type: ignore[misc]
             for name, by in (("A", 0.99), ("B", 1.0), ("C", 1.01))]  # fmt: skip
    shown = text(compare(sides, Side("D", "d", curve(falling(20)))))
    assert "runA" in shown and "runC" in shown and "100% of the places of D lie in the band" in shown
    assert "D against mean: pass" in shown


def test_what_differs_is_listed_and_many_are_counted() -> None:
    many = {f"flag{number:02}": "1" for number in range(50)}
    found = compare(
        [Side("A", "a", curve([1.0]), settings={**many, "lr": "5e-5"}, versions={"cann": "8.0"})],
        Side("B", "b", curve([1.0]), settings={"lr": "3e-5"}, versions={"cann": "8.1"}),
    )
    shown = text(found)
    assert "  lr      5e-5  3e-5" in shown and "... and 12 more; --json lists all" in shown
    assert len(document.document([found])["comparisons"][0]["differences"]) == 52


def test_the_document_holds_only_what_json_has(tmp_path: Path) -> None:
    found = beside(curve([1.0, math.nan, math.inf]), curve([math.nan, 1.0, 1e308]))
    made = document.document([found])
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    loss = made["comparisons"][0]["loss"]
    assert (loss["a"]["not_finite"], loss["a"]["first_not_finite"], loss["b"]["not_finite"]) == (2, 200, 1)
    assert made["failed"] is True and made["comparisons"][0]["rules"][0]["name"] == "loss early"


def test_the_page_holds_both_curves_their_difference_and_no_other_address() -> None:
    side = Side("B", "<script>alert(1)</script>", curve(falling(30, lambda place: 1.01)))
    html = page.render([compare([Side("A", "a & b", curve(falling(30)))], side)])
    assert html.count("<svg") == 2 and "difference of the losses, B - A" in html
    assert html.count("<script") == 1 and "&lt;script&gt;alert(1)" in html and "a &amp; b" in html
    assert not [word for word in ("://", " src=", "href=", "url(", "@import") if word in html]


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_answers_are_tested_where_both_runs_have_them(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", {f"q{n}": "yes" for n in range(10)})
    b = write(tmp_path / "b.json", {f"q{n}": "no" if n < 6 else "yes" for n in range(10)})
    questions = [{"id": f"q{n}", "answers": [{"text": "yes"}]} for n in range(10)]
    truth = write(tmp_path / "dev.json", {"data": [{"paragraphs": [{"qas": questions}]}]})
    sides = [Side("A", "a", curve([1.0]), predictions=a)], Side("B", "b", curve([1.0]), predictions=b)
    told = "6 of 10 answers differ; A alone is right 6 times, B alone 0 times: McNemar's exact test p = 0.031"
    assert told in text(compare(*sides, truth=truth))
    assert "6 of 10 answers differ; which are right is not known" in text(compare(*sides))
    assert "the true answers are not known" in text(compare(*sides, truth=tmp_path / "none.json"))
    b.write_text("{")
    assert "the answers are not compared: " in text(compare(*sides))


@settings(max_examples=30, deadline=None)
@given(baseline=lists(curves, min_size=1, max_size=3), b=curves)
def test_whatever_logs_hold_there_is_a_table_a_document_and_a_page(baseline: Any, b: Any) -> None:
    sides = [Side(name, name, a) for name, a in zip("XYZ", baseline)]
    found = compare(sides, Side("B", "b.log", b))
    assert text(found).endswith(table.verdict_line(found)) or "verdict:" in text(found)
    json.dumps(document.document([found]), allow_nan=False)
    assert page.render([found]).endswith("</html>")
