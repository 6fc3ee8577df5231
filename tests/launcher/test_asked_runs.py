"""The command lines that `ask` and `score` make of a run: its folder, its files, its rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Sequence

import pytest

from launcher.commands import positional, score
from launcher.commands.ask import SWITCHES
from launcher.plan.model import Plan, RankSpec
from launcher.run_dir import RunDir

ARGV = ("python", "-m", "squad.run_squad", "--predict_file=dev.json", "--evaluation=cmrc", "--do_train")


def asks(words: Sequence[str]) -> list[str]:
    """Return the command line of squad.ask."""
    return positional.with_run_folder(words, SWITCHES)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunDir]:
    """Give a function that makes the folder of a run of a command line in runs/, the latest."""
    monkeypatch.chdir(tmp_path)

    def make(argv: Sequence[str] = ARGV, name: str = "made-1") -> RunDir:
        made = RunDir.create(tmp_path / "runs" / name, [0])
        env = {"NPU_LAUNCH_CWD": "/data"}
        rank = RankSpec(0, "host0", 0, 0, 0, tuple(argv), env, "/elsewhere")
        made.plan.write_text(Plan("demo", name, str(made.path), "host0", "cpu", "{}", (rank,)).to_json())
        (tmp_path / "runs" / "latest").symlink_to(name)
        return made

    return make


@pytest.mark.parametrize("word", ["latest", "made-1", "mad", "runs/made-1"])
def test_score_takes_the_files_and_the_rules_of_the_run(run: Any, word: str) -> None:
    made = run()
    own = ["--predict_file=/data/dev.json", "--evaluation=cmrc"]
    assert score.words([word, "--json"]) == [str(made.path), "--json", *own]
    assert asks([word, "who?"]) == [str(made.path), "who?"]
    assert score.words(["--json", "--by", "exact", word])[:4] == ["--json", "--by", "exact", str(made.path)]


def test_what_is_given_comes_before_the_runs_own(run: Any) -> None:
    made = run()
    words = [str(made.path), "--predict_file", "x.json", "--evaluation=squad"]
    assert score.words(words) == words
    words = [str(made.path), "--train_file=t.json"]
    assert score.words(words) == [*words, "--evaluation=cmrc"]


def test_score_asks_the_first_questions_alone_where_the_run_did(run: Any) -> None:
    limits = ["--max_eval_samples=8", "--num_eval_iterations=3", "--predict_batch_size=4"]
    made = str(run((*ARGV, *limits)).path)
    own = ["--predict_file=/data/dev.json", "--evaluation=cmrc"]
    assert score.words(["latest"]) == [made, *own, *limits]
    words = ["latest", "--max_eval_samples", "0"]
    assert score.words(words) == [made, *words[1:], *own, *limits[1:]]
    assert score.words(["latest", "--predict_file=x.json"])[2:] == own[1:]  # another file, as a whole
    assert score.words(["latest", "--train_file=t.json"])[2:] == [*own[1:], *limits]  # where it is now


def test_a_run_that_held_back_a_share_is_scored_on_its_train_file(run: Any) -> None:
    made = run(("python", "x.py", "--train_file", "~/train.json", "--eval_share=0.1"))
    assert score.words(["latest"]) == [str(made.path), f"--train_file={Path.home()}/train.json"]


def test_checkpoints_are_where_they_are_written_until_they_are_gathered(run: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    made = run((*ARGV, f"--output_dir={output}"))
    for words in (asks, score.words):
        assert words(["latest"])[0] == str(made.path)  # it has not begun, or was on another host
    output.mkdir()
    for words in (asks, score.words):
        assert words(["latest"])[0] == words([str(made.path)])[0] == str(output)
    (made.checkpoints / "model.ckpt-9.index").touch()
    for words in (asks, score.words):
        assert words(["latest"])[0] == str(made.path)


@pytest.mark.parametrize("words", [[], ["--json"], ["model.ckpt-9"], ["out"], ["nothing", "--json"]])
def test_what_is_no_run_is_handed_on_as_it_is(run: Any, tmp_path: Path, words: list[str]) -> None:
    run()
    (tmp_path / "out").mkdir()
    assert score.words(words) == asks(words) == words


def test_a_damaged_plan_costs_its_flags_alone(run: Any) -> None:
    made = run()
    made.plan.write_text("{")
    assert score.words(["latest"]) == [str(made.path)]
