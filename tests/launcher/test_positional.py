"""The run that a command line names, wherever its word stands."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Optional

import pytest

from launcher.commands.ask import SWITCHES
from launcher.commands.positional import with_run_folder
from squad import ask
from squad.flags import SquadFlags


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "runs" / "20-first"
    folder.mkdir(parents=True)
    (folder / "plan.json").touch()
    monkeypatch.chdir(tmp_path)
    return str(folder)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["20-first", "Who?"], 0),
        (["20", "Who?"], 0),
        (["--n_best_size", "20", "20-f"], 2),  # the value of an option is none, though it begins like one
        (["--n_best_size=20", "20-f"], 1),
        (["--switch", "20-f", "Who?"], 1),
        (["--switch", "False", "20-f"], 2),
        (["--", "20-f"], 1),
    ],
)
def test_the_first_plain_word_may_be_the_name_of_a_run(run: str, words: list[str], place: int) -> None:
    found = with_run_folder(words, ("switch",))
    assert found == [run if index == place else word for index, word in enumerate(words)]


@pytest.mark.parametrize("words", [[], ["--n_best_size", "20"], ["other", "20-first"], ["--switch"]])
def test_other_words_stay_as_they_are(run: str, words: list[str]) -> None:
    assert with_run_folder(words, ("switch",)) == words


def test_the_switches_of_ask_are_its_boolean_flags() -> None:
    kinds = typing.get_type_hints(SquadFlags)
    booleans = [name for name in ask.FLAGS if kinds[name] in (bool, Optional[bool])]
    assert sorted(SWITCHES) == sorted([*booleans, "help"])
