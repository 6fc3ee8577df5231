"""What npu-launch prints: whatever name it quotes, a line stays one line and no terminal obeys it."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path
from typing import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import output
from launcher.cli import main
from launcher.errors import LauncherError, UsageError
from launcher.text import printable, printable_json

ROOT = Path(__file__).resolve().parents[2]
OBEYED = "\x00\x07\x08\n\r\x1b\x7f\x85\x9b\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ud800\udcff"


@pytest.mark.parametrize("character", OBEYED)
def test_what_a_terminal_obeys_is_shown_as_an_escape(character: str) -> None:
    shown = printable(f"a{character}b")
    assert shown.startswith("a\\") and shown.endswith("b")
    assert shown.encode("ascii")


@pytest.mark.parametrize("text", ["a\tb", "模型", "\u0645\u06cc\u200c\u062e", "👩\u200d💻", "a\u00a0b", "é"])
def test_the_letters_of_every_language_stay(text: str) -> None:
    assert printable(text) == text


def test_a_colour_is_left_out() -> None:
    assert printable("\x1b[1;31mred\x1b[0m") == "red"


@settings(deadline=None)
@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_can_be_written(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1 and "\x1b" not in shown
    assert shown.encode().decode() == shown
    assert json.loads(printable_json(json.dumps(text, ensure_ascii=False))) == text


def test_a_line_that_holds_a_line_end_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo("run x\nnpu-launch: all is well", "two")
    output.echo_json({"name": "x\u202e\x7f"})
    out = capsys.readouterr().out
    assert out.startswith("run x\\x0anpu-launch: all is well\ntwo\n")
    assert json.loads(out.split("\n", 2)[2]) == {"name": "x\u202e\x7f"}


def test_a_json_document_is_the_same_document_without_what_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.echo_document('{\n "a": "\u202e\x9b"\n}\n')
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": "\u202e\x9b"}
    assert out.encode("ascii")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "utf-8"])
def test_no_encoding_of_the_terminal_makes_it_fail(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    output.echo("é 模型 \udcff 🚀")
    assert raw.getvalue().decode(encoding).endswith("\n")


class Full(io.TextIOWrapper):
    """A stream on a full disk."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_an_error_on_stdout_and_none_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full(io.BytesIO()))
    monkeypatch.setattr(sys, "stderr", Full(io.BytesIO()))
    output.echo("a warning", err=True)
    with pytest.raises(LauncherError, match="stdout: No space left"):
        output.echo("a result")
    monkeypatch.setattr(sys, "stdout", None)
    output.echo("stdout was closed before the start")


def test_every_finding_of_an_error_is_a_line_and_what_it_quotes_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UsageError("first: \x1b[2J", "second: x\nnpu-launch: done")

    monkeypatch.setattr("launcher.cli.click.Group.main", refuse)
    with pytest.raises(SystemExit) as caught:
        main(["ps"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "npu-launch: first: ",
        "npu-launch: second: x\\x0anpu-launch: done",
    ]


# These write what has been made printable: the console without waiting, the merged logs by the million lines.
WRITERS = {"output.py", "ui/console.py", "commands/logs.py"}
IN_RANKS = {"worker.py", "beats.py"}  # what they print is a rank's own output


def prints(path: Path) -> Iterator[str]:
    """Yield the lines of a file that print by themselves."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    main_blocks = {id(inner) for node in tree.body if isinstance(node, ast.If) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in main_blocks:
            continue
        called = ast.unparse(node.func) if hasattr(ast, "unparse") else ast.dump(node.func)
        if called in ("print", "traceback.print_exc") or called.startswith(("click.echo", "click.secho")):
            yield f"{path.name}:{node.lineno}: {called}"
        elif called.startswith(("sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer")):
            yield f"{path.name}:{node.lineno}: {called}"


def test_nothing_is_printed_but_through_the_one_way_out() -> None:
    launcher = ROOT / "launcher"
    paths = {path.relative_to(launcher).as_posix(): path for path in launcher.rglob("*.py")}
    others = [path for name, path in paths.items() if name not in WRITERS | IN_RANKS]
    assert not [line for path in others for line in prints(path)]
