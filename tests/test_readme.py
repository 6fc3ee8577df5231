"""README: its first run works as shown, and the Chinese one says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import markdown
from tests.launching import launch
from tests.markdown import ROOT

ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
JOB, PROGRAM = markdown.blocks(ENGLISH, "yaml")[0], markdown.blocks(ENGLISH, "python")[0]
SESSIONS = [block for block in markdown.blocks(ENGLISH) if block.startswith("$ npu-launch")]


def test_the_first_run_is_ten_lines_and_ten_lines() -> None:
    assert (JOB.count("\n"), PROGRAM.count("\n")) == (10, 10)


def test_the_first_run_is_among_the_examples() -> None:
    here = JOB.replace("program: train.py", "program: examples/minimal.py")
    assert (ROOT / "examples" / "minimal.yaml").read_text() == here
    assert (ROOT / "examples" / "minimal.py").read_text() == PROGRAM


@pytest.mark.parametrize("session", SESSIONS, ids=["good", "bad"])
def test_what_is_shown_of_the_first_run_is_printed(session: str, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(JOB)
    (tmp_path / "train.py").write_text(PROGRAM)
    command, *shown = session.splitlines()
    done = launch(tmp_path, "--backend=cpu", *command.split()[2:])
    printed = list(map(settled, (done.stdout + done.stderr).splitlines()))
    assert [line for line in map(settled, shown) if line not in printed and "backend cpu" not in line] == []
    assert done.returncode == ("limit=3" in command)


def settled(line: str) -> str:
    """Return a line without what differs from run to run: times, pids, folders."""
    line = re.sub(r"\S+/(?=runs/|train\.py)", "", line)
    line = re.sub(r"means-\d{8}-\d{6}-\w{4}", "RUN", line)
    return re.sub(r"^\d\d:\d\d:\d\d\.\d{3}|\d+\.\d s\b|pid \d+", "N", line)


def test_both_languages_have_the_same_commands() -> None:
    assert markdown.blocks(CHINESE) == markdown.blocks(ENGLISH)


def test_both_languages_have_the_same_sections() -> None:
    levels = [[level for level, _ in markdown.headings(text)] for text in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]


def test_both_languages_have_the_same_links() -> None:
    english, chinese = markdown.links(ENGLISH), markdown.links(CHINESE)
    assert (english.pop(0), chinese.pop(0)) == ("README.zh-CN.md", "README.md")
    assert sorted(chinese) == sorted(english)


def test_both_languages_have_the_same_tables() -> None:
    english, chinese = markdown.tables(ENGLISH), markdown.tables(CHINESE)
    assert [[len(row) for row in table] for table in chinese] == [[len(row) for row in t] for t in english]
    for ours, theirs in zip(english, chinese):
        for row, other in zip(ours, theirs):
            assert list(map(markdown.code_spans, other)) == list(map(markdown.code_spans, row))


def test_both_languages_name_the_same_commands_and_files_in_their_sentences() -> None:
    spans = [set(markdown.code_spans(markdown.prose(text))) for text in (ENGLISH, CHINESE)]
    assert spans[0] ^ spans[1] == set()
