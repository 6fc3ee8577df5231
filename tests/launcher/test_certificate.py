"""certificate.json: written, checked, and found out when anything in it or behind it was changed."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.config import job as configs
from launcher.errors import UsageError
from launcher.repeat import certificate, figures, record, table, verification
from squad import repeat_report
from tests.launcher.repeating import QUESTIONS, write_job


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "report", repeat_report.report)


def made(folder: Path, skill: float, seeds: tuple[int, ...] = (1, 2, 3)) -> Any:
    """Make the folder of a repeat that has finished, and its certificate's request and report."""
    command = record.Command(
        str(folder / "job.yaml"), ("env.API_TOKEN=verysecret",), seeds, "0", 0, str(folder)
    )
    repeat = record.make(command, "tiny", folder / "runs")
    for run in repeat.runs:
        run.state, run.exit_code, run.starts, run.seconds = record.FINISHED, 0, 1, 1.5 + run.seed
        place = repeat.run_folder(run.seed)
        (place / "predictions").mkdir(parents=True)
        draw = random.Random(run.seed)
        good = [draw.random() < skill for _ in range(QUESTIONS)]
        found = {f"q{n}": f"blue {n}" if good[n] else "no" for n in range(QUESTIONS)}
        (place / "predictions" / "predictions.json").write_text(json.dumps(found))
        figure = 100.0 * sum(good) / QUESTIONS
        result = {"exit_code": 0, "metrics": {"exact_match": figure, "f1": figure}}
        result["provenance"] = {"python": "3.11.7", "tensorflow": "2.21.0"}
        (place / "result.json").write_text(json.dumps(result))
    repeat.save()
    return repeat


def certify(folder: Path, repeat: Any, against: str = "") -> tuple[Any, Any]:
    config, _ = configs.load(str(folder / "job.yaml"), [], {})
    sides = [figures.against(against)] if against else []
    asked = figures.Parameters("passage", 300, 5)
    request = figures.request([*sides, figures.side(repeat)], config.args, str(folder), asked)
    report = figures.report(request)
    repeat.inputs = repeat.inputs or certificate.inputs(config, str(folder))
    repeat.save()
    certificate.write(repeat, certificate.changes(repeat, config), request, report)
    return request, report


def check(path: Path) -> tuple[int, list[str]]:
    lines: list[str] = []
    return verification.verify(path, lines.append), lines


def differing(path: Path) -> list[str]:
    code, lines = check(path)
    found = [line.split("  ", 1)[1].strip() for line in lines if line.startswith(verification.DIFFERS)]
    assert code == bool(found)
    return found


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Any]:
    """Give a folder and two repeats in it; the second is certified against the first."""
    write_job(tmp_path)
    first, second = made(tmp_path, 0.5), made(tmp_path, 0.9)
    certify(tmp_path, second, str(first.folder))
    return tmp_path, (first, second)


def test_what_was_not_changed_is_the_same(pair: Any) -> None:
    folder, (_, second) = pair
    path = second.folder / figures.CERTIFICATE
    code, lines = check(path)
    assert code == 0, lines
    assert not any(line.startswith("differs") for line in lines)
    assert f"{verification.SAME:<17}  code" in lines
    assert "verysecret" not in path.read_text()
    document = json.loads(path.read_text())
    assert document["made_of"] == {"python": "3.11.7", "tensorflow": "2.21.0"}
    assert list(document["files"]) == ["program", "predict_file"]
    # Elsewhere, with its folder, and without the other repeat and the data.
    moved = folder / "elsewhere"
    shutil.move(str(second.folder), str(moved))
    assert check(moved / figures.CERTIFICATE)[0] == 0
    shutil.rmtree(str(folder / "runs"))
    (folder / "dev.json").unlink()
    code, lines = check(moved / figures.CERTIFICATE)
    assert code == 0
    assert any(line.startswith("cannot be checked") and "tests.mcnemar" in line for line in lines)
    assert any(line.startswith("same") and "tests.welch.f1.p" in line for line in lines)


def numbers(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the places of all numbers of a document."""
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in numbers(item, (*place, name))]
    if isinstance(value, list):
        return [found for n, item in enumerate(value) for found in numbers(item, (*place, n))]
    return [place] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def test_every_number_that_is_changed_is_found(pair: Any) -> None:
    _, (_, second) = pair
    path = second.folder / figures.CERTIFICATE
    document = json.loads(path.read_text())
    report = document["statistics"]["report"]
    known = figures.report(document["statistics"]["request"])
    for place in numbers(document):
        changed = json.loads(path.read_text())
        holder = changed
        for name in place[:-1]:
            holder = holder[name]
        holder[place[-1]] += 1
        assert certificate.sha256_of(changed) != changed["sha256"], place
        if place[:2] == ("statistics", "report"):
            lines = verification._compare(changed["statistics"]["report"], known, "", "")
            assert [line for line in lines if line.outcome == verification.DIFFERS], place
    assert len(numbers(report)) > 40


@pytest.mark.parametrize(
    "place, value, item",
    [
        (("statistics", "report", "sides", 1, "summary", "f1", "mean"), 99.0, "summary.f1.mean"),
        (("statistics", "report", "tests", "bootstrap_f1", "low"), 1.0, "tests.bootstrap_f1.low"),
        (("statistics", "request", "random_seed"), 6, "tests.bootstrap_f1"),
        (("runs", 0, "figures", "f1"), 99.0, "seed 1 as reported"),
        (("runs", 1, "seconds"), 0.1, "runs[1].seconds"),
        (("made_of", "tensorflow"), "1.15.5", "made_of.tensorflow"),
        (("command", "seeds"), [1, 2], "command.seeds"),
        (("job_file",), "job: other", "job file"),
        (("files", "program"), {"/bin/sh": "0" * 64}, "program /bin/sh"),
        (("statistics", "request", "resamples"), "x", "layout"),
        (("statistics", "request", "sides"), [], "layout"),
        (("runs", 0, "figures", "f1"), 10**400, "layout"),
        (("statistics",), None, "layout"),
    ],
)
def test_a_forger_who_also_renews_the_hash_is_found(pair: Any, place: Any, value: Any, item: str) -> None:
    _, (_, second) = pair
    path = second.folder / figures.CERTIFICATE
    document = json.loads(path.read_text())
    holder = document
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    document["sha256"] = certificate.sha256_of(document)
    path.write_text(json.dumps(document))
    found = differing(path)
    assert any(item in line for line in found), found


def test_changed_files_are_found(pair: Any) -> None:
    folder, (first, second) = pair
    path = second.folder / figures.CERTIFICATE
    (folder / "train.py").write_text("pass\n")
    assert [line.split()[0] for line in differing(path)] == ["program"]
    (predictions,) = first.run_folder(2).glob("predictions/*")
    predictions.write_text(predictions.read_text().replace("no", "blue 1"))
    assert any(line.startswith("predictions of seed 2") for line in differing(path))


def test_what_changes_between_the_runs_is_told(tmp_path: Path) -> None:
    write_job(tmp_path)
    repeat = made(tmp_path, 0.5)
    certify(tmp_path, repeat)
    (tmp_path / "train.py").write_text("pass\n")
    certify(tmp_path, repeat)
    code, lines = check(repeat.folder / figures.CERTIFICATE)
    assert code == 1  # the program is not the one of the first run
    assert any("changed between the first run and the last: program" in line for line in lines)


def test_sources_that_change_between_the_runs_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "squad" / "a.py"
    source.parent.mkdir()
    source.write_text("one")
    monkeypatch.setattr(certificate, "_ROOT", tmp_path)
    write_job(tmp_path)
    repeat, (config, _) = made(tmp_path, 0.5), configs.load(str(tmp_path / "job.yaml"), [], {})
    repeat.inputs = certificate.inputs(config, str(tmp_path))
    assert certificate.changes(repeat, config) == []
    source.write_text("two")
    assert certificate.changes(repeat, config) == ["code"]


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"kind": "other"}')
    with pytest.raises(UsageError, match="no certificate of npu-launch repeat"):
        check(tmp_path / "x.json")


def test_against_a_run_or_published_predictions(tmp_path: Path) -> None:
    write_job(tmp_path)
    first, second = made(tmp_path, 0.5), made(tmp_path, 0.9)
    run = first.run_folder(1)
    (run / "plan.json").write_text("{}")
    for path in (run, run / "predictions" / "predictions.json"):
        request, report = certify(tmp_path, second, str(path))
        assert len(report["sides"][0]["runs"]) == 1
        text = "\n".join(table.lines(second, request, report))
        assert "one run, as one more seed" in text
        assert "McNemar's exact test: not for a majority of 1 run against 3" in text
        assert "its p for each seed, one model on each side  1: " in text
        assert "of these models, not of their recipes" in text
    with pytest.raises(UsageError, match=r"no such repeat, run or predictions.json"):
        figures.against(str(tmp_path / "nothing"))


def test_the_table_tells_a_difference_from_chance_or_not(tmp_path: Path) -> None:
    write_job(tmp_path)
    first, second = made(tmp_path, 0.3), made(tmp_path, 0.9)
    text = "\n".join(table.lines(second, *certify(tmp_path, second, str(first.folder))))
    assert "  told from chance: F1 +" in text
    same = made(tmp_path, 0.3, (4, 5, 6))
    text = "\n".join(table.lines(same, *certify(tmp_path, same, str(first.folder))))
    assert "  not told from chance: F1 " in text and "in 80 % of cases" in text
    assert "pairs of" not in text  # they have other seeds


def reported(repeat: Any, figures_of: dict[int, dict[str, float]]) -> None:
    """Let the runs of a repeat have no predictions, but these figures."""
    for run in repeat.runs:
        place = repeat.run_folder(run.seed)
        shutil.rmtree(str(place / "predictions"))
        result = json.loads((place / "result.json").read_text())
        (place / "result.json").write_text(json.dumps(dict(result, metrics=figures_of[run.seed])))


@pytest.mark.parametrize(
    "name, title", [("f1", "F1"), ("exact", "EM"), ("exact_match", "EM"), ("accuracy", "accuracy")]
)
def test_a_job_that_reports_one_figure_has_its_table_and_certificate(
    tmp_path: Path, name: str, title: str
) -> None:
    write_job(tmp_path)
    first, second = made(tmp_path, 0.5), made(tmp_path, 0.9)
    reported(first, {1: {name: 71.0}, 2: {name: 72.0}, 3: {name: 73.0}})
    reported(second, {1: {name: 81.0}, 2: {name: 82.0}, 3: {name: 83.5}})
    text = "\n".join(table.lines(second, *certify(tmp_path, second, str(first.folder))))
    assert text.splitlines()[0].split() == ["seed", title, "time", "state"]
    assert f"told from chance: {title} +10.167" in text and "  mean    82.167" in text
    assert "pairs of one seed: t test" in text and "(these pairs of seeds see a difference of" in text
    assert ("best seed 3, worst seed 1 by" in text) == (name != "accuracy")
    assert check(second.folder / figures.CERTIFICATE)[0] == 0


def test_figures_that_not_every_run_has_are_named(tmp_path: Path) -> None:
    write_job(tmp_path)
    first, second = made(tmp_path, 0.5), made(tmp_path, 0.9)
    reported(first, {1: {"accuracy": 1.0}, 2: {}, 3: {}})
    reported(second, {1: {"f1": 81.0, "exact": 70.0}, 2: {"f1": 82.0}, 3: {"f1": 83.0}})
    text = "\n".join(table.lines(second, *certify(tmp_path, second, str(first.folder))))
    assert "no mean of EM: not every run has it" in text and "  mean         -    82.000" in text
    assert "not compared: there is no figure that every run of both sides has" in text
    text = "\n".join(table.lines(first, *certify(tmp_path, first)))
    assert "no figure that every run has reported, so no mean" in text


def test_seeds_without_effect_are_not_compared_with_chance(tmp_path: Path) -> None:
    write_job(tmp_path)
    first, second = made(tmp_path, 0.5), made(tmp_path, 0.9)
    for repeat, value in ((first, 33.3), (second, 34.3)):
        reported(repeat, {seed: {"f1": value} for seed in (1, 2, 3)})
    text = "\n".join(table.lines(second, *certify(tmp_path, second, str(first.folder))))
    assert "the seed has no effect on F1: it is the same for all of them" in text and "best seed" not in text
    assert "F1  +1.000  no interval and no p: the seed has no effect" in text
    assert "F1 +1.000 is not compared with chance" in text and "told from chance" not in text
    assert check(second.folder / figures.CERTIFICATE)[0] == 0


@pytest.mark.parametrize(
    "args, other",
    [({"eval_share": 0.1}, True), ({"eval_share": "0.1", "do_predict": "false"}, True),
     ({}, False), ({"eval_share": 0.1, "do_predict": True}, False), ({"eval_share": 0}, False)],
)  # fmt: skip
def test_questions_that_the_seed_chooses_are_told(tmp_path: Path, args: Any, other: bool) -> None:
    args = {"predict_file": str(tmp_path / "dev.json"), **args}
    asked = figures.request([], args, str(tmp_path), figures.Parameters())
    assert asked["other_questions"] is other and bool(asked["data"]) is not other
    write_job(tmp_path)
    repeat = made(tmp_path, 0.5)
    text = "\n".join(table.lines(repeat, asked, figures.report({**asked, "sides": [figures.side(repeat)]})))
    assert ("each seed was scored on other questions" in text) is other


def test_against_takes_names_as_well_as_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    first, second = made(tmp_path, 0.5), made(tmp_path, 0.9)
    runs = tmp_path / "runs"
    for name in ("tiny-1", "tiny-2"):
        shutil.copytree(str(first.run_folder(1)), str(runs / name))
        (runs / name / "plan.json").write_text("{}")
    (runs / "latest").symlink_to("tiny-2")
    for word, found in (("latest", "tiny-2"), ("tiny-1", "tiny-1"), (second.folder.name, second.folder.name)):
        assert figures.against(word)["name"] == str(runs / found)
    word = first.folder.name[: len(os.path.commonprefix([first.folder.name, second.folder.name])) + 1]
    assert figures.against(word)["name"] == str(first.folder)
    with pytest.raises(UsageError, match=r"--against: tiny fits tiny-1, tiny-2; give more of the name"):
        figures.against("tiny")
    with pytest.raises(UsageError, match=r"--against: repeat-tiny fits repeat-tiny-\S+, repeat-"):
        figures.against("repeat-tiny")
    with pytest.raises(UsageError, match=r"--against: other: no such repeat, run or predictions.json"):
        figures.against("other")


@pytest.mark.parametrize("version, release", [(1, "an earlier"), (2, "an earlier"), (4, "a later")])
def test_the_tests_of_another_release_s_certificate_are_not_judged(
    pair: Any, version: int, release: str
) -> None:
    _, (_, second) = pair
    path = second.folder / figures.CERTIFICATE
    document = json.loads(path.read_text())
    document["version"] = version
    document["statistics"]["report"]["tests"]["mcnemar"]["p"] = 0.5
    document["sha256"] = certificate.sha256_of(document)
    path.write_text(json.dumps(document))
    code, lines = check(path)
    assert code == 0, lines
    assert any(f"statistics.tests: of version {version}, by {release} release" in line for line in lines)


def test_a_seed_that_was_started_again_is_judged_by_its_last_predictions(tmp_path: Path) -> None:
    write_job(tmp_path)
    repeat = made(tmp_path, 0.5)
    place = repeat.run_folder(1)
    last, elsewhere = place / "predictions" / "rank_0" / "predictions.json", tmp_path / "predictions.json"
    last.parent.mkdir()
    for path in (last, elsewhere):
        path.write_text(json.dumps({f"q{n}": f"blue {n}" for n in range(QUESTIONS)}))
    result = json.loads((place / "result.json").read_text())
    for told, found in (([elsewhere], last.parent.parent / last.name), ([last.with_name("x"), last], last)):
        text = json.dumps({**result, "predictions": [str(path) for path in told]})
        (place / "result.json").write_text(text)
        assert figures.side(repeat)["runs"][0]["predictions"] == str(found)


def test_a_prefix_is_hashed_with_its_vocabulary(tmp_path: Path) -> None:
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001", "vocab.txt", "other.txt"):
        (tmp_path / name).write_text(name)
    found = [Path(path).name for path, _ in certificate.hashes("model.ckpt", str(tmp_path))]
    assert found == ["model.ckpt.data-00000-of-00001", "model.ckpt.index", "vocab.txt"]
    assert [Path(path).name for path, _ in certificate.hashes(".", str(tmp_path))] == [
        "model.ckpt.data-00000-of-00001", "model.ckpt.index", "other.txt", "vocab.txt",
    ]  # fmt: skip


def test_each_seed_has_its_own_output_folder() -> None:
    assert record.with_output({"output_dir": "/data/out"}, 3) == ["output_dir=/data/out/seed-3"]
    assert record.with_output({"output_dir": "out"}, 3) == []
