"""Evaluation while training: on which questions, by how many ranks, and what becomes of the figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bert.checkpoints import store
from launcher.plan.model import Plan, RankSpec
from launcher.run_dir import RunDir
from squad import held, score
from squad.errors import DataError
from squad.run_squad import main
from tests.launching import ROOT, launch
from tests.squad.conftest import flags, squad_document
from tests.squad.ranks import run_squad as run_ranks
from tests.squad.test_check import findings

EVERY = {"num_train_steps": 6, "eval_steps": 2, "keep_best": "span_f1", "display_loss_steps": 1}


def articles(*titles: str, rows: bool = False) -> list[Any]:
    """Make an article of two questions for each title, or a row for each question."""
    entries = [
        {**squad_document(number, 1)["data"][0], "title": title} for number, title in enumerate(titles)
    ]
    if not rows:
        return entries
    return [
        {**question, "title": entry["title"], "context": paragraph["context"]}
        for entry in entries
        for paragraph in entry["paragraphs"]
        for question in paragraph["qas"]
    ]


def written(path: Path, entries: list[Any]) -> str:
    path.write_text(json.dumps({"version": "v2.0", "data": entries}))
    return str(path)


@pytest.mark.parametrize("rows", [False, True], ids=["articles", "rows"])
def test_whole_articles_are_held_and_the_seed_and_their_titles_choose_them(
    tmp_path: Path, rows: bool
) -> None:
    path = written(tmp_path / "a.json", articles("a", "b", "a", "c", "d", rows=rows))
    chosen = held.choose(path, 0.3, seed=1)
    assert {frozenset(chosen.ids)} <= {
        frozenset(("q0", "n0", "q2", "n2")),  # both parts of a
        *(frozenset((f"q{one}", f"n{one}", f"q{two}", f"n{two}")) for one in (1, 3, 4) for two in (1, 3, 4)),
        *(frozenset((f"q{one}", f"n{one}", "q0", "n0", "q2", "n2")) for one in (1, 3, 4)),
    }
    again = written(tmp_path / "b.json", articles("a", "b", "a", "c", "d", rows=not rows))
    assert held.choose(again, 0.3, seed=1).ids == chosen.ids
    assert len({held.choose(path, 0.3, seed).ids for seed in range(9)}) > 2
    assert "of 4 articles, are held back to evaluate on (eval_share 0.3, seed 1)" in chosen.text


def test_rows_without_titles_are_held_by_context(tmp_path: Path) -> None:
    entries = articles("", "", "", rows=True)
    chosen = held.choose(written(tmp_path / "a.json", entries), 0.2, seed=1).ids
    assert len(chosen) == 2 and len({one[1:] for one in chosen}) == 1


def test_one_article_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all questions are of one article; give predict_file"):
        held.choose(written(tmp_path / "a.json", articles("a", "a")), 0.2, 1)


def test_held_articles_are_neither_trained_on_nor_counted(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = written(tmp_path / "a.json", articles(*"abcdefgh"))
    wish = flags(tiny, do_train=True, train_file=path, predict_file="", eval_epochs=0.5, eval_share=0.25,
                 num_train_epochs=1, train_batch_size=2, output_dir=tmp_path / "out")  # fmt: skip
    assert main(wish) == 0
    text = capsys.readouterr().out
    assert "4 of 16 questions, those of 2 of 8 articles, are held back" in text
    assert f"{path}: 12 questions" in text and f"{path}: 4 questions" in text
    steps = int(re.search(r"training: (\d+) steps", text).group(1))
    assert re.findall(r"step (\d+): EM", text) == [str(steps // 2), str(steps)]
    assert main([*wish, "--seed=7"]) == 2  # of which some were trained on
    assert "of other data: eval_share is 0.25" in capsys.readouterr().err


@pytest.fixture(scope="module")
def alone(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("alone")
    words = flags(tiny, do_train=True, do_predict=True, output_dir=folder / "out", **EVERY)
    return folder / "out", run_ranks(folder / "run", 1, words)


def evaluations(text: str) -> list[str]:
    return re.findall(r"step \d+: EM .*", text)


def test_the_figures_are_those_that_predicting_with_the_checkpoint_gives(alone: tuple[Path, str]) -> None:
    folder, text = alone
    best = re.search(r"best checkpoint: (\S+), span_f1 ([\d.]+); predicting with it", text)
    assert best is not None
    facts = json.loads(Path(best.group(1) + ".json").read_text())["evaluation"]
    assert facts["figures"] == facts["best"]
    assert facts["best"]["span_f1"] == pytest.approx(float(best.group(2)), abs=1e-3)
    exact, f1 = re.search(r"EM ([\d.]+)  F1 ([\d.]+)  on 10 questions", text).groups()
    wanted = [facts["best"]["exact"], facts["best"]["f1"]]
    assert [float(exact), float(f1)] == pytest.approx(wanted, abs=1e-3)
    assert len(evaluations(text)) == 3
    newest = store.kept(str(folder))[-1]
    assert json.loads(Path(newest + ".json").read_text())["threshold"]["questions"] == 10


@pytest.mark.parametrize("size", [3])
def test_ranks_share_an_evaluation_and_find_the_same(
    tiny: Path, tmp_path: Path, alone: tuple[Path, str], size: int
) -> None:
    """With a batch of all questions two ranks have none to compute, and take part all the same."""
    words = flags(tiny, do_train=True, do_predict=True, output_dir=tmp_path / "out", **EVERY,
                  global_batch_size=8, predict_batch_size=64)  # fmt: skip
    text = run_ranks(tmp_path / "run", size, words)
    assert evaluations(text) == evaluations(alone[1])
    assert not list((tmp_path / "out").glob("logits_*"))


def test_a_file_without_answers_is_refused_before_the_training(tiny: Path, tmp_path: Path) -> None:
    document = squad_document(500, 2)
    for question in document["data"][0]["paragraphs"][1]["qas"]:
        del question["answers"], question["is_impossible"]
    path = written(tmp_path / "bare.json", document["data"])
    (found,) = findings(flags(tiny, do_train=True, predict_file=path, eval_steps=2))
    assert found.startswith(f"predict_file: {path}: 2 of 4 questions have no reference answers")
    assert findings(flags(tiny, do_train=True, predict_file=path)) == []


def test_a_best_span_wants_a_question_with_an_answer(tiny: Path, tmp_path: Path) -> None:
    (article,) = articles("a")
    (paragraph,) = article["paragraphs"]
    paragraph["qas"] = [question for question in paragraph["qas"] if question["is_impossible"]]
    path = written(tmp_path / "dev.json", [article])
    wish = flags(tiny, do_train=True, eval_steps=2, predict_file=path, keep_best="span_f1")
    (found,) = findings(wish)
    assert found == (
        f"predict_file: {path}: no question has an answer, so there is no span_f1; give keep_best=f1"
    )
    assert findings([*wish, "--keep_best=f1"]) == []


@pytest.fixture(scope="module")
def kept(alone: tuple[Path, str]) -> Path:
    return alone[0]


def test_score_scores_every_kept_checkpoint_as_the_training_did(
    tiny: Path, kept: Path, capsys: pytest.CaptureFixture
) -> None:
    assert score.main([str(kept), f"--predict_file={tiny / 'dev.json'}", "--by=span_f1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["checkpoints"]
    assert [one["checkpoint"] for one in found] == store.kept(str(kept))
    for one in found:
        facts = json.loads(Path(one["checkpoint"] + ".json").read_text())["evaluation"]
        assert one["figures"] == pytest.approx(facts["figures"]) and one["step"] == facts["done"] * 2
        assert one["best"] == (one["step"] == facts["best_step"])


def test_score_shows_a_table_and_leaves_out_what_is_damaged(
    tiny: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "ranks" / "0"
    shutil.copytree(str(kept), str(folder))
    newest = store.kept(str(folder))[-1]
    with open(newest + ".index", "ab") as stream:
        stream.write(b"x")
    assert score.main([str(tmp_path), f"--predict_file={tiny / 'dev.json'}"]) == 1
    out, err = capsys.readouterr()
    title, *lines, asked = out.splitlines()
    assert title.split()[:3] == ["step", "EM", "F1"] and sum(line.endswith("best F1") for line in lines) == 1
    assert asked == f"on {total_of(tiny)} questions of {tiny / 'dev.json'}"
    assert len(lines) == len(store.kept(str(folder))) - 1 and newest + ".index: damaged" in err


def total_of(tiny: Path) -> int:
    document = json.loads((tiny / "dev.json").read_text())
    return sum(len(part["qas"]) for article in document["data"] for part in article["paragraphs"])


def test_score_says_that_it_asks_the_first_questions_alone(
    tiny: Path, kept: Path, capsys: pytest.CaptureFixture
) -> None:
    words = [store.kept(str(kept))[-1], f"--predict_file={tiny / 'dev.json'}", "--max_eval_samples=3"]
    assert score.main(words) == 0
    asked = capsys.readouterr().out.splitlines()[-1]
    assert asked == f"on 3 questions of {tiny / 'dev.json'}, the first ones (max_eval_samples)"
    assert score.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["questions"] == 3 < total_of(tiny)


@pytest.fixture(scope="module")
def shared(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Train, evaluated on a held share by CMRC's rules; give output_dir, train_file, what was printed."""
    folder = tmp_path_factory.mktemp("shared")
    path = written(folder / "train.json", articles(*"abcdefgh"))
    wish = {**EVERY, "num_train_steps": 4, "keep_best": "f1", "eval_share": 0.25, "evaluation": "cmrc"}
    words = flags(tiny, do_train=True, train_file=path, output_dir=folder / "out", **wish)
    words = [word for word in words if not word.startswith("--predict_file")]
    return folder / "out", path, run_ranks(folder / "run", 1, words)


def test_a_run_that_only_evaluates_itself_reports_its_best(shared: tuple[Path, str, str]) -> None:
    folder, _, text = shared
    best = re.search(r"best checkpoint: (\S+), f1", text)
    assert best is not None
    figures = json.loads(Path(best.group(1) + ".json").read_text())["evaluation"]["best"]
    (path,) = folder.parent.glob("run/**/artifacts.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    told = [record["values"] for record in records if record["kind"] == "metrics"]
    assert figures in told and {"exact", "f1", "average"} <= set(figures)


def test_score_scores_a_held_share_again_by_the_rules_of_the_run(
    shared: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, path, _ = shared
    assert score.main([str(folder), f"--train_file={path}", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["train_file"], found["eval_share"], found["evaluation"]) == (path, 0.25, "cmrc")
    assert f"score: {path}: 4 of 16 questions" in err and "does not say whose" not in err
    assert len(found["checkpoints"]) == 2 and found["questions"] == 4
    for one in found["checkpoints"]:
        facts = json.loads(Path(one["checkpoint"] + ".json").read_text())
        assert one["figures"] == pytest.approx(facts["evaluation"]["figures"])
    assert score.main([str(folder)]) == 2
    assert "or as --train_file the train_file of which 0.25 was held back" in capsys.readouterr().err
    other = written(tmp_path / "other.json", articles(*"abcdefgx"))
    assert score.main([str(folder), f"--train_file={other}"]) == 2
    assert f"{other}: not the train_file of" in capsys.readouterr().err


def test_score_says_whose_rules_it_takes_where_a_checkpoint_does_not(
    tiny: Path, shared: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(str(shared[0]), str(folder))
    for prefix in store.kept(str(folder)):
        facts = json.loads(Path(prefix + ".json").read_text())
        assert facts["task"].pop("evaluation") == "cmrc"
        Path(prefix + ".json").write_text(json.dumps(facts))
    words = [str(folder), f"--predict_file={tiny / 'dev.json'}"]
    assert score.main(words) == 0
    out, err = capsys.readouterr()
    assert "AVERAGE" not in out
    assert "note: evaluation: scored by the rules of squad, as the checkpoint does not say whose" in err
    assert score.main([*words, "--evaluation=cmrc"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split()[-1] == "AVERAGE" and "does not say whose" not in err
    assert score.main([*words, "--evaluation=cmrc", "--by=average"]) == 0
    assert sum(line.endswith("best AVERAGE") for line in capsys.readouterr().out.splitlines()) == 1
    assert score.main([*words, "--evaluation=squad", "--by=average"]) == 2
    assert "score: --by average: CMRC's rules alone have it" in capsys.readouterr().err


def test_a_run_is_scored_and_asked_by_its_name_while_it_writes_elsewhere(
    shared: tuple[Path, str, str], tmp_path: Path
) -> None:
    folder, path, _ = shared
    plan_of(tmp_path, f"--output_dir={folder}", f"--train_file={path}", "--eval_share=0.25")
    done = launch(tmp_path, "score", "latest", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["train_file"] == path
    done = launch(tmp_path, "ask", "latest", f"--passage={tmp_path / 'passage'}", "who?")
    assert "passage" in done.stderr and "checkpoint" not in done.stderr


def plan_of(folder: Path, *argv: str) -> RunDir:
    """Make the folder of a run that has gathered nothing yet, the latest in runs/."""
    run = RunDir.create(folder / "runs" / "made", [0])
    rank = RankSpec(0, "host0", 0, 0, 0, ("python", "-m", "squad.run_squad", *argv), {}, str(folder))
    run.plan.write_text(Plan("demo", "made", str(run.path), "host0", "cpu", "{}", (rank,)).to_json())
    (folder / "runs" / "latest").symlink_to("made")
    return run


def test_a_full_disk_takes_no_table() -> None:
    program = "from squad import score; raise SystemExit(0 if score._printed(['x']) else 2)"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert (done.returncode, done.stderr) == (2, b"score: standard output: No space left on device\n")


def test_score_says_what_it_lacks(tmp_path: Path, kept: Path, capsys: pytest.CaptureFixture) -> None:
    assert score.main([str(tmp_path)]) == 2
    assert "no checkpoint in it" in capsys.readouterr().err
    assert score.main([str(tmp_path / "nothere")]) == 2
    assert "nothere: no such run, folder or checkpoint; give a run" in capsys.readouterr().err
    assert score.main([str(kept)]) == 2
    assert "score: --predict_file: missing" in capsys.readouterr().err
