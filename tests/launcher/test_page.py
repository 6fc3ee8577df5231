"""The page of a run: every part has its data or says what is missing; nothing acts or tells a secret."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.page import run_page
from launcher.run_dir import RunDir
from tests.launcher.runs_made import SECRET, START, TOKEN, finished, lines, rows
from tests.launching import launch

PARTS = ("happened", "curves", "answers", "ranks", "memory", "ran", "origin")


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text by section."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, str] = {}
        self._section = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
        self.tags.append((tag, about))
        self._section = about["id"] if tag == "section" else self._section

    def handle_data(self, data: str) -> None:
        self.texts[self._section] = self.texts.get(self._section, "") + data


def test_every_part_of_a_whole_run_has_its_data(tmp_path: Path) -> None:
    page = run_page.page(finished(tmp_path))
    read = Reader(page)
    assert [about["id"] for tag, about in read.tags if tag == "section"] == list(PARTS)
    assert not [about for _, about in read.tags if about.get("class") == "missing"]
    for part, words in (
        ("happened", ("started", "[0-1]", "run made")),
        ("curves", ("Loss", "Learning rate", "Gradient", "skipped for an overflow", "per device", "step 5")),
        ("answers", ("88.30", "98.00", "average precision 77.00 %")),
        ("ranks", ("rank 1 costs the run 11 %", "Own time per step", "300.0", "60.0")),
        ("memory", ("2 GB",)),
        ("ran", ("train.yaml", "completed", "--api_key=***")),
        ("origin", ("abc123", "5 B", "7 B", "deadbeef")),
    ):
        assert all(word in read.texts[part] for word in words), (part, read.texts[part])
    assert "训练 <demo>" in read.texts[""]


def test_the_exact_match_of_squad_1_is_shown_as_that_of_squad_2(tmp_path: Path) -> None:
    run = finished(tmp_path)
    result = json.loads(run.result.read_text())
    run.result.write_text(json.dumps({**result, "metrics": {"exact_match": 81.25, "f1": 88.5}}))
    read = Reader(run_page.page(run))
    assert all(word in read.texts["answers"] for word in ("All questions", "81.25", "88.50"))
    assert sum(text.count("81.25") for text in read.texts.values()) == 2  # also at the top


@pytest.mark.parametrize("code", [0, 4])
def test_no_secret_is_in_the_page(tmp_path: Path, code: int) -> None:
    page = run_page.page(finished(tmp_path, code=code))
    assert SECRET not in page and TOKEN not in page
    assert ("password=***" in page) == bool(code)


def test_nothing_in_the_page_acts_but_its_own_script(tmp_path: Path) -> None:
    page = run_page.page(finished(tmp_path, code=4, name="<script>alert(1)</script>"))
    read = Reader(page)
    names = [tag for tag, _ in read.tags]
    assert names.count("script") == names.count("style") == 1
    assert not {"img", "link", "iframe", "object", "a", "form"} & set(names)
    about = {name for _, attributes in read.tags for name in attributes}
    assert not {name for name in about if name.startswith("on") or name in ("src", "style", "href")}
    policy = next(about["content"] for tag, about in read.tags if "http-equiv" in about)
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "\x1b" not in page and "\x00" not in page


def test_a_page_of_1024_ranks_is_smaller_than_a_megabyte_and_shows_the_slow_one(tmp_path: Path) -> None:
    run = finished(tmp_path, ranks=2, steps=150)
    plan = json.loads(run.plan.read_text())
    plan["ranks"] = [dict(plan["ranks"][0], rank=rank, device_id=rank % 8) for rank in range(1024)]
    run.plan.write_text(json.dumps(plan))
    for rank in range(2, 1024):
        folder = run.rank_dir(rank)
        folder.mkdir()
        os.link(str(run.rank_dir(0) / "metrics.jsonl"), str(folder / "metrics.jsonl"))
    page = run_page.page(run)
    assert len(page.encode()) < 1_000_000
    assert "rank 0-15: mean" in page and "960 ranks are not listed" in page


def test_a_page_stays_small_whatever_happened(tmp_path: Path) -> None:
    run = finished(tmp_path, ranks=64, steps=300, code=4)
    kinds = ("restart", "alert", "straggler", "hang")
    events = [
        {"event": kinds[place % 4], "time": START + place / 2, "rank": place % 64,
         "data": {"step": place, "text": f"{place} <长>" * 400}}
        for place in range(3000)
    ]  # fmt: skip
    run.events.write_bytes(run.events.read_bytes() + lines(events))
    page = run_page.page(run)
    assert len(page.encode()) < 1_000_000
    assert re.search(r"step 5: 5 &lt;长&gt;[^<]* … and \d+ more</title>", page)


def test_a_run_without_a_result_took_until_it_was_last_seen(tmp_path: Path) -> None:
    run = finished(tmp_path, steps=20)
    run.result.unlink()
    run.events.write_bytes(run.events.read_bytes().split(b"\n")[0] + b"\n")
    assert re.search(r"Took\W*1 min 40 s", re.sub(r"<[^>]*>", " ", run_page.page(run, "lost")))


def test_restarts_and_alerts_are_marked_in_the_curves(tmp_path: Path) -> None:
    run = finished(tmp_path)
    with run.events.open("ab") as stream:
        stream.write(lines([{"time": START + 50, "event": "restart", "rank": None, "data": {"attempt": 2}}]))
    text = Reader(run_page.page(run)).texts
    assert "2 attempts" in text["happened"] and "restart" in text["curves"]


def test_what_was_evaluated_has_a_curve_of_its_own(tmp_path: Path) -> None:
    run = finished(tmp_path)
    with (run.rank_dir(0) / "metrics.jsonl").open("ab") as stream:
        last = rows(20)[-1]["step"]
        stream.write(lines([{"step": last, "eval_f1": 61.5, "eval_exact": 58.25, "time": START}]))
    text = Reader(run_page.page(run)).texts["curves"]
    assert "Evaluations" in text and "61.5" in text and "eval_" not in text
    assert "No number was written" not in text


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    run = finished(tmp_path)
    broken = [dict(row, loss=None) if row["step"] == 30 else row for row in rows(20)]
    (run.rank_dir(0) / "metrics.jsonl").write_bytes(lines(broken))
    assert "the first at step 30" in Reader(run_page.page(run)).texts["curves"]


def test_rows_of_which_no_loss_was_asked_are_no_loss_that_is_no_number(tmp_path: Path) -> None:
    run, path = finished(tmp_path), tmp_path / "runs/made/ranks/0/metrics.jsonl"
    sparse = [row if row["step"] % 20 == 0 else without(row, "loss") for row in rows(20)]
    path.write_bytes(lines(sparse))
    assert "No number was written" not in Reader(run_page.page(run)).texts["curves"]
    path.write_bytes(lines([dict(row, loss=None) if row["step"] == 60 else row for row in sparse]))
    assert "the loss at 1 place(s), the first at step 60" in Reader(run_page.page(run)).texts["curves"]


def test_a_loss_that_never_was_a_number_is_told(tmp_path: Path) -> None:
    run = finished(tmp_path)
    run.metrics(0).write_bytes(lines([dict(without(row, "own_loss"), loss=None) for row in rows(20)]))
    assert "the loss at 20 place(s), the first at step 5" in Reader(run_page.page(run)).texts["curves"]


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def test_where_waiting_is_not_told_own_time_is_not_called_own_work(tmp_path: Path) -> None:
    run = finished(tmp_path)
    assert "and waiting" not in run_page.page(run)
    for rank in range(2):
        beat = json.loads(run.heartbeat(rank).read_text())
        run.heartbeat(rank).write_text(json.dumps(dict(beat, wait_s=None)))
    text = Reader(run_page.page(run)).texts["ranks"]
    assert "Own and waiting, ms/step" in text and "Own and waiting time per step" in text
    assert text.count("The ranks do not tell waiting from own work") == 1
    run.heartbeat(0).unlink(), run.heartbeat(1).unlink()
    for rank in range(2):
        run.metrics(rank).write_bytes(lines([dict(row, wait_s=None) for row in rows(20, rank)]))
    assert "Own and waiting time per step" in run_page.page(run)


def test_a_rank_alone_waits_for_no_other(tmp_path: Path) -> None:
    run = finished(tmp_path, ranks=1)
    run.metrics(0).write_bytes(lines([dict(row, wait_s=None) for row in rows(20)]))
    assert "and waiting" not in run_page.page(run)


@pytest.mark.parametrize(
    ("result", "state", "shown"),
    [({}, "finished", True), ({"alerts": []}, "finished", False), ({}, "running", False)],
)
def test_where_no_alert_was_looked_for_the_rows_are_gone_through(
    tmp_path: Path, result: dict[str, list[str]], state: str, shown: bool
) -> None:
    run = finished(tmp_path)
    run.result.write_text(json.dumps({**json.loads(run.result.read_text()), **result}))
    run.metrics(0).write_bytes(lines([*rows(20), {"step": 500, "loss": None}]))
    text = Reader(run_page.page(run, state)).texts["ranks"]
    assert ("the loss is no finite number at step 500" in text) == shown
    assert ("No alert was recorded: 1 of these" in text) == shown


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("plan.json", "plan.json: no such file"),
        ("result.json", "an older launcher ran it"),
        ("events.jsonl", "events.jsonl: no such file"),
        ("ranks", "none of ranks [0-1]"),
    ],
)
def test_what_is_missing_is_told_in_its_part(tmp_path: Path, file: str, said: str) -> None:
    run = finished(tmp_path)
    path = run.path / file
    shutil.rmtree(str(path)) if path.is_dir() else path.unlink()
    assert said in run_page.page(run)


def test_a_curve_of_answers_is_found_beside_the_predictions_but_not_an_old_one(tmp_path: Path) -> None:
    run = finished(tmp_path)
    (tmp_path / "out").mkdir()
    place = tmp_path / "out" / "precision_recall.json"
    os.replace(str(run.rank_dir(0) / "precision_recall.json"), str(place))
    said = {"kind": "predictions", "files": [str(tmp_path / "out" / "predictions.json")]}
    run.artifacts(0).write_bytes(lines([said]))
    assert "Precision over recall" in run_page.page(run)
    os.utime(str(place), (START - 60, START - 60))
    assert "No precision-recall curve" in run_page.page(run)


def test_a_clock_that_goes_back_is_told(tmp_path: Path) -> None:
    run = finished(tmp_path)
    with run.events.open("ab") as stream:
        stream.write(lines([{"time": START - 5000, "event": "swept", "rank": None, "data": {"pids": [1]}}]))
    assert "The clock went back 1 time(s)" in run_page.page(run)


FILES = ("plan.json", "result.json", "events.jsonl", "train.yaml", "report.txt", "rank_table.json",
         "ranks/0/metrics.jsonl", "ranks/1/metrics.jsonl", "ranks/0/heartbeat.json", "logs/rank_0.log",
         "ranks/0/precision_recall.json", "checkpoints/manifest.json", "ranks/0/artifacts.jsonl")  # fmt: skip
NAMES = (
    "rank event data time ends metrics exact f1 step provenance files name started seconds exit_code "
    "peak_bytes predictions loss pr_f1 recalls precisions text kind since code"
).split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
HARM = st.one_of(
    st.just(None), st.binary(max_size=40), st.floats(0, 1), JSON.map(lambda value: json.dumps(value).encode())
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return finished(tmp_path_factory.mktemp("whole"), code=4)


@settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(FILES), HARM, min_size=1, max_size=4))
def test_no_damaged_run_folder_breaks_the_page(
    whole: RunDir, tmp_path_factory: pytest.TempPathFactory, harm: dict[str, bytes | float | None]
) -> None:
    """Files are gone (None), hold bytes or JSON of any kind, or end somewhere (a share of their length)."""
    folder = tmp_path_factory.mktemp("harmed") / "run"
    shutil.copytree(str(whole.path), str(folder))
    for name, how in harm.items():
        path = folder / name
        if how is None:
            path.unlink() if path.exists() else None
        elif isinstance(how, bytes):
            path.write_bytes(how)
        elif path.exists():
            path.write_bytes(path.read_bytes()[: int(how * path.stat().st_size)])
    page = run_page.page(RunDir(folder))
    assert "could not be made" not in page and page.rstrip().endswith("</html>")
    shutil.rmtree(str(folder.parent))


def test_values_of_secret_variables_and_arguments_are_masked_in_what_the_ranks_wrote(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("job: x\ndevices: 0\nenv: {DEMO_TOKEN: in-the-job-1}\n")
    script = 'echo "got $DEMO_TOKEN ${0#*=}"; exit 3'
    launch(tmp_path, "job.yaml", "--", "sh", "-c", script, "--api-key=an-argument-2")
    page = html.unescape((tmp_path / "runs" / "latest" / run_page.NAME).read_text())
    assert "got *** ***" in page
    assert not re.search("in-the-job-1|an-argument-2", page)
    assert "program:\n- sh\n- -c\n" in page and page.count("npu-launch /") == 1


def test_a_run_ends_with_its_page_and_the_command_writes_it_again(tmp_path: Path) -> None:
    done = launch(tmp_path, "--devices", "0", "--", "sh", "-c", "echo hello; exit 3")
    page = (tmp_path / "runs" / "latest" / run_page.NAME).read_text()
    assert done.returncode == 3 and "failed, exit code 3" in re.sub(r"<[^>]*>", "", page)
    assert json.loads((tmp_path / "runs" / "latest" / "result.json").read_text())["provenance"]["launcher"]
    again = launch(tmp_path, "report", "-o", "page.html")
    assert again.returncode == 0 and again.stdout == "page.html\n"
    assert "hello" in (tmp_path / "page.html").read_text()
    (tmp_path / "link.html").symlink_to("page.html")
    (tmp_path / "page.html").write_text("")
    assert launch(tmp_path, "report", "-o", "link.html").returncode == 0
    assert (tmp_path / "link.html").is_symlink() and "hello" in (tmp_path / "page.html").read_text()
    assert launch(tmp_path, "report", "-o", "/dev/stderr").stderr.lower().startswith("<!doctype html>")
    assert Path("/dev/stderr").is_symlink()
