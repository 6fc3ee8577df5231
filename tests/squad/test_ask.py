"""Asking a model: on a terminal, in JSON lines, from a file, as a library."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from squad import ask
from squad.answerer import Answer, Answerer, Candidate, settle
from squad.asking import lines, passages, view
from squad.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
PASSAGE = "mr abc was born in 1234. mr def was not."
ODD = [
    "mr abc  was\nborn in\t1234.",
    "  Mr. Ábc, born in “1234”, died.",
    "a\u0301bc was born\u00a0in 12\u200b34.",
    "这本书是王小明在1988年写的。后来他去了北京！",
    "東京で1964年に生まれた。 mr abc",
    "mr abc was born in 1234. " * 12,  # several windows
]


@pytest.fixture(scope="module")
def model(finished: str) -> Iterator[Answerer]:
    """Give a loaded model, whose answers are those of chance."""
    with Answerer(finished, null_score_diff_threshold=100) as loaded:
        yield loaded


@pytest.mark.parametrize("passage", ODD)
def test_an_answer_is_at_its_place_in_the_passage(model: Answerer, passage: str) -> None:
    answer = model.answer("when was mr abc born?", passage)
    assert answer.text
    for found in (answer, *answer.alternatives):
        assert passage[found.start : found.end] == found.text
    assert 0 < sum(found.probability for found in (answer, *answer.alternatives)) <= 1


def test_answers_together_are_those_of_one_at_a_time(model: Answerer) -> None:
    pairs = [(question, passage) for passage in ODD for question in ("when?", "when was mr abc born?")]
    together, alone = model.answers(pairs), [model.answer(*pair) for pair in pairs]
    for one, other in zip(together, alone):
        assert one[:3] == other[:3]
        assert one.score == pytest.approx(other.score, abs=1e-3)


def test_a_threshold_decides_whether_there_is_an_answer(model: Answerer, finished: str) -> None:
    answer = model.answer("when?", PASSAGE)
    assert answer.null_odds is not None
    below = settle(finished, null_score_diff_threshold=answer.null_odds - 0.01)
    model.settings, before = model.settings._replace(threshold=below.threshold), model.settings
    none = model.answer("when?", PASSAGE)
    model.settings = before
    assert none[:3] == ("", -1, -1)
    assert none.alternatives[0][:3] == answer[:3]


def test_a_model_is_asked_as_it_was_trained(finished: str) -> None:
    found = settle(finished)
    assert (found.flags.max_seq_length, found.flags.doc_stride) == (64, 16)
    assert found.flags.version_2_with_negative
    assert settle(finished, max_seq_length=48).flags.max_seq_length == 48
    assert settle(str(Path(finished).parent)).flags.init_checkpoint == finished


def test_a_run_means_its_best_checkpoint_if_it_keeps_one(finished: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for path in Path(finished).parent.glob("*"):
        name = path.name.replace("ckpt-2", "ckpt-3")
        for target in {path.name, name} if path.is_file() else ():
            (folder / target).symlink_to(path)
    newest = folder / "model.ckpt-3.json"
    facts = json.loads(newest.read_text())
    facts["files"] = {name.replace("ckpt-2", "ckpt-3"): entry for name, entry in facts["files"].items()}
    newest.unlink()
    newest.write_text(json.dumps(facts))
    assert settle(str(tmp_path / "run")).flags.init_checkpoint == str(folder / "model.ckpt-3")
    facts["config"]["keep_best"], facts["evaluation"] = "f1", {"best_step": 2}
    newest.write_text(json.dumps(facts))
    assert settle(str(tmp_path / "run")).flags.init_checkpoint == str(folder / "model.ckpt-2")


def test_auto_is_the_threshold_that_is_kept_or_refused(finished: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(str(Path(finished).parent), str(run))
    path = run / "model.ckpt-2.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "threshold": {"f1": 1.5, "exact": 0, "questions": 3, "data": {}}}))
    assert settle(str(run), null_score_diff_threshold="auto").threshold == settle(str(run)).threshold == 1.5
    path.write_text(json.dumps({**facts, "threshold": None}))
    assert settle(str(run)).threshold == 0
    with pytest.raises(DataError, match="has no threshold for null_score_diff_threshold=auto"):
        settle(str(run), null_score_diff_threshold="auto")


def test_a_question_that_is_too_long_is_cut_and_said_so(model: Answerer) -> None:
    answer = model.answer("when was mr abc born? " * 9, PASSAGE)
    assert answer.notes == ("the question has 72 tokens; its first 24 are read (max_query_length)",)


@pytest.mark.parametrize(
    ("question", "passage", "problem"),
    [
        (" ", PASSAGE, "the question is empty"),
        ("when?", "\n ", "the passage is empty"),
        ("when?", "\u200b\u200b", "the passage has no tokens"),
    ],
)
def test_nothing_to_ask_is_an_error(model: Answerer, question: str, passage: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        model.answers([("when?", PASSAGE), (question, passage)])


def _answered(model: Answerer, content: bytes, passage: str | None = None) -> tuple[list[Any], int]:
    """Answer lines that come through a pipe."""
    inner, outer = os.pipe()
    os.write(outer, content)
    os.close(outer)
    out = io.BytesIO()
    errors = lines.answer_lines(model, inner, out, passage)
    os.close(inner)
    return [json.loads(line) for line in out.getvalue().decode("utf-8").splitlines()], errors


def test_a_line_comes_out_for_each_that_goes_in(model: Answerer) -> None:
    good = {"question": "when?", "context": ODD[3], "extra": 1}
    asked = [
        json.dumps(dict(good, id="é")), "", "no json",
        json.dumps(dict(good, id=[7]), ensure_ascii=False), "[]",
        json.dumps({"id": 3, "question": 4, "context": "x"}), json.dumps({"question": "when?"}),
        json.dumps(dict(good, context=" ")), "[" * 20_000, json.dumps(dict(good, context="a \ud800 b")),
    ]  # fmt: skip
    found, errors = _answered(model, "\n".join(asked).encode("utf-8") + b"\n\xff\n")
    assert [line["id"] for line in found] == ["é", 3, [7], 5, 3, 7, 8, 9, 10, 11]
    assert found[0]["answer"] == ODD[3][found[0]["start"] : found[0]["end"]] != ""
    assert dict(found[0], id=0) == dict(found[2], id=0)
    assert errors == 7
    problems = [
        "line 3: invalid JSON", "line 5: not an object", "line 6: question: 4", "line 7: context: missing",
        "line 8: the passage is empty", "line 9: invalid JSON", "line 11: not UTF-8 at byte 0",
    ]  # fmt: skip
    said = [line["error"] for line in found if "error" in line]
    assert [text.startswith(problem) for text, problem in zip(said, problems)] == [True] * 7


def test_lines_without_context_are_about_the_passage_given(model: Answerer) -> None:
    asked = b'{"question": "when?"}\n{"question": "when?", "context": null}'
    found, errors = _answered(model, asked, PASSAGE)
    assert not errors
    assert [line["answer"] for line in found] == [model.answer("when?", PASSAGE).text] * 2


def test_a_line_is_answered_before_the_next_one_is_there() -> None:
    inner, outer = os.pipe()
    groups = lines.groups(inner, 2)
    os.write(outer, b"1\n")
    assert [line.content for line in next(groups)] == [b"1"]
    os.write(outer, b"2\n3\n\n4\n5")
    assert [[line.number for line in next(groups)] for _ in range(2)] == [[2, 3], [5]]
    os.close(outer)
    assert [[line.content for line in group] for group in groups] == [[b"5"]]
    os.close(inner)


def test_a_line_that_is_too_long_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST", 10)
    monkeypatch.setattr(lines, "_BLOCK", 4)
    inner, outer = os.pipe()
    os.write(outer, b"1\n" + b"x" * 50 + b"\n" + b"y" * 11 + b"\n4\n" + b"z" * 20)
    os.close(outer)
    found = [line for group in lines.groups(inner) for line in group]
    assert found == [(1, b"1"), (2, None), (3, None), (4, b"4"), (5, None)]
    os.close(inner)


def test_all_questions_of_a_file_are_answered_in_its_order(
    model: Answerer, finished: str, tiny: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert ask.main([finished, "--file", str(tiny / "dev.json"), "--null_score_diff_threshold=100"]) == 0
    found = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    entries = json.loads((tiny / "dev.json").read_text())["data"][0]["paragraphs"]
    asked = [(question, entry["context"]) for entry in entries for question in entry["qas"]]
    assert [line["id"] for line in found] == [question["id"] for question, _ in asked]
    for line, (question, context) in zip(found, asked):
        assert (
            line["answer"]
            == context[line["start"] : line["end"]]
            == model.answer(question["question"], context).text
        )


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--passage", "missing.txt"], "ask: missing.txt: No such file"),
        (["--passage", "."], "ask: .: a folder"),
        (["--passage", "latin.txt"], "ask: latin.txt: not UTF-8 at byte 1"),
        (["--passage", "blank.txt"], "ask: blank.txt: empty; give a passage"),
        (["--max_seq_length=big"], "ask: --max_seq_length: 'big' is not an integer"),
        (["--file", "latin.txt"], "ask: latin.txt: "),
        (["--file", "latin.txt", "Who?", "--passage", "blank.txt"],
         "ask: --file: its questions and passages are answered; leave QUESTION and --passage out"),
        (["--passage", "-"], "ask: --passage -: standard input is the passage, so no question is left"),
        (["--null_score_diff_threshold=nan"], "ask: --null_score_diff_threshold: nan is not a number"),
        (["--version_2_with_negative=perhaps"], "ask: --version_2_with_negative: 'perhaps' is not a boolean"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    finished: str, words: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "latin.txt").write_bytes(b"a\xe9b")
    (tmp_path / "blank.txt").write_text(" \n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("squad.answerer.predictor", None)  # no model is loaded for it
    assert ask.main([finished, *words]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if ": note: " not in line]
    assert len(said) == 1
    assert said[0].startswith(problem)


def test_answers_that_cannot_be_written_are_one_line(finished: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "squad.ask", finished, "Who?"], cwd=ROOT, input=PASSAGE.encode(),
            stdout=full, stderr=subprocess.PIPE, timeout=300,
        )  # fmt: skip
    said = done.stderr.decode()  # after notes, and TensorFlow 1.15's own words
    assert done.returncode == 2 and said.endswith("ask: standard output: No space left on device\n")
    assert "Traceback" not in said


def test_a_boolean_flag_does_not_take_the_question() -> None:
    words = ["--version_2_with_negative", "Who?", "--do_lower_case", "false", "--nostrip_accents"]
    found = ask._parser().parse_intermixed_args(ask._with_values(["run", *words, "--n_best_size", "3"]))
    assert (found.checkpoint, found.question, found.n_best_size) == ("run", "Who?", "3")
    assert (found.version_2_with_negative, found.do_lower_case) == ("True", "false")
    assert found.strip_accents == "False"


def test_flags_are_not_abbreviated(finished: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ask.main([finished, "--max_seq=48", "--passage", "x"])
    assert "unrecognized arguments: --max_seq=48" in capsys.readouterr().err


def test_a_question_that_cannot_be_answered_is_an_error_of_its_own(
    finished: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "page.txt").write_text("\u200b\u200b", encoding="utf-8")
    assert ask.main([finished, "--passage", str(tmp_path / "page.txt"), "Who?"]) == 1
    assert json.loads(capfdbinary.readouterr().out) == {"id": 1, "error": "the passage has no tokens"}


def test_a_checkpoint_that_is_none_or_not_fine_tuned_is_named(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"ask: {tmp_path / 'none'}: no checkpoint")


def test_a_passage_may_be_piped_in() -> None:
    assert passages.from_stream(io.BytesIO(b"\xef\xbb\xbfabc\r\n")) == "abc\r\n"
    with pytest.raises(DataError, match="standard input: not UTF-8 at byte 1"):
        passages.from_stream(io.BytesIO(b"a\xff"))


@pytest.mark.parametrize(
    ("passage", "answer", "parts"),
    [
        ("One. Two is 22. Three.", "22", ("Two is ", ".")),
        ("Dr. J. Doe met Mr. Roe in 1999! Then", "1999", ("Dr. J. Doe met Mr. Roe in ", "!")),
        ("他去了。他在1988年来了！后来。", "1988", ("他在", "年来了！")),
        ("「行く。」と言った。1964年。", "1964", ("", "年。")),
        ("a title\n\nthe answer is\nhere", "answer", ("the ", " is\nhere")),
        ("It is 3.14 here. No.", "3.14", ("It is ", " here.")),
        ("x. a b. c d. y.", "b. c", ("a ", " d.")),
    ],
)
def test_an_answer_is_shown_in_its_sentence(passage: str, answer: str, parts: tuple[str, str]) -> None:
    start = passage.index(answer)
    assert view.sentence(passage, start, start + len(answer)) == parts


def _shown(
    passage: str, answer: str, columns: int = 80, color: bool = False, odds: float | None = -2.0
) -> list[str]:
    start = passage.index(answer)
    other = Candidate("x\x1b[2J", 0, 5, 0.0, 0.0001)
    found = Answer(answer, start, start + len(answer), 1.0, 0.9, odds, (other,))
    return view.show(found, passage, 0.5, columns, color)


def test_what_is_shown_is_what_the_model_thinks() -> None:
    assert _shown("It was 1888.", "1888") == [
        "  It was [1888].", '  90.0 %; next: "x\ufffd[2J" < 0.1 %; no answer: -2.00, threshold 0.5',
    ]  # fmt: skip
    assert _shown("It was 1888.", "1888", color=True)[0] == "  It was \x1b[1;32m1888\x1b[0m."
    assert _shown("It was 1888.", "1888", odds=None)[1] == '  90.0 %; next: "x\ufffd[2J" < 0.1 %'
    none = Answer("", -1, -1, 1.0, 0.9, 3.0, ())
    assert view.show(none, "It was.", 0.5) == ["  no answer: 3.00 is above the threshold 0.5"]


@pytest.mark.parametrize("text", ["a word and " * 60, "很长的句子" * 60, "\x1b[31m\u202eyes\x07 " * 60])
def test_a_sentence_fits_on_the_terminal(text: str) -> None:
    line = _shown(f"{text}ANSWER{text}", "ANSWER", columns=40)[0]
    assert view.width(line) <= 3 * 40
    assert "[ANSWER]" in line
    assert line.count("…") == 2
    assert not set(line) & set("\x1b\x07\u202e")


class _Terminal:
    """A program on a terminal of its own."""

    def __init__(self, words: list[str], **environ: str) -> None:
        self._end, end = os.openpty()
        self.program = subprocess.Popen(
            [sys.executable, *words], stdin=end, stdout=end, stderr=end, cwd=str(ROOT),
            start_new_session=True, env={**os.environ, "TERM": "xterm", **environ},
        )  # fmt: skip
        os.close(end)
        self._unread = ""

    def until(self, word: str, seconds: float = 60) -> str:
        """Read up to a word; give what came before it."""
        end = time.monotonic() + seconds
        while word not in self._unread:
            assert time.monotonic() < end, f"no {word!r} in {self._unread!r}"
            if select.select([self._end], [], [], 1)[0]:
                self._unread += self._read()
        before, self._unread = self._unread.split(word, 1)
        return before

    def say(self, text: str) -> None:
        os.write(self._end, text.encode("utf-8"))

    def leave(self) -> tuple[str, int]:
        """Read to the end: what was said, the exit code."""
        while True:
            try:
                block = self._read()
            except OSError:  # on Linux the end of a terminal is an error
                block = ""
            if not block:
                os.close(self._end)
                return self._unread, self.program.wait(60)
            self._unread += block

    def _read(self) -> str:
        return os.read(self._end, 1 << 16).decode("utf-8", "replace")


def test_a_conversation_on_a_terminal(finished: str, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("北京。mr abc was born in 1988年。", encoding="utf-8")
    terminal = _Terminal(["-m", "launcher", "ask", finished, "--null_score_diff_threshold=100"])
    terminal.until("file)> ")
    terminal.say(PASSAGE + "\n\n")
    terminal.until("question> ")
    terminal.say("when was mr abc born?\n")
    shown = terminal.until("question> ")
    assert "\x1b[1;32m" in shown
    assert "threshold 100" in shown
    terminal.say(":passage missing.txt\n")
    assert "missing.txt: No such file" in terminal.until("question> ")
    terminal.say(f":passage {tmp_path}/other.txt\n")
    terminal.until("question> ")
    terminal.say("when?\n")
    assert "next: " in terminal.until("question> ")
    terminal.say("\x04")
    rest, code = terminal.leave()
    assert code == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize("early", [True, False], ids=["while it loads", "at a question"])
def test_ctrl_c_ends_a_conversation_cleanly(finished: str, early: bool) -> None:
    terminal = _Terminal(["-m", "squad.ask", finished, "--null_score_diff_threshold=100"], NO_COLOR="1")
    terminal.until("file)> ")
    if not early:
        terminal.say(PASSAGE + "\n\n")
        terminal.until("question> ")
        terminal.say("when?\n")
        shown = terminal.until("question> ")
        assert "\x1b[1;32m" not in shown
        assert "[" in shown
    time.sleep(0.5)  # between its prompt and its waiting, Python's readline would miss the signal
    terminal.program.send_signal(signal.SIGINT)
    rest, code = terminal.leave()
    assert code == 130
    assert "Traceback" not in rest


def test_a_pasted_passage_has_paragraphs_and_ctrl_d_ends_one(finished: str) -> None:
    terminal = _Terminal(["-m", "squad.ask", finished, "--null_score_diff_threshold=100"], NO_COLOR="1")
    terminal.until("file)> ")
    pasted = "mr abc was born in 1234.\n\nmr def was not.\n\n\nmr ghi was."
    terminal.say(pasted + "\n\n")
    assert f"a passage of {len(pasted)} characters" in terminal.until("question> ")
    terminal.say(":passage\n")
    terminal.until("file)> ")
    terminal.say("mr abc was born in 1234.\n")
    terminal.until("... ")
    time.sleep(0.3)  # readline takes this key for the end alone, not behind others
    terminal.say("\x04")
    assert "a passage of 24 characters" in terminal.until("question> ")
    terminal.say("when?\n")
    assert "threshold 100" in terminal.until("question> ")
    terminal.say(":quit\n")
    assert terminal.leave()[1] == 0


def test_another_model_can_be_loaded_when_one_is_closed(finished: str) -> None:
    for _ in range(2):
        with Answerer(finished, backend="cpu") as loaded:
            assert loaded.answer("when?", PASSAGE).null_odds is not None
