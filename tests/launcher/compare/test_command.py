"""npu-launch compare on files, as a user starts it."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import pytest

from launcher.commands.compare import compare
from launcher.errors import LauncherError
from tests.launcher.compare.curves import falling
from tests.launcher.compare.test_settings import make_run


class Done(NamedTuple):
    """How a call ended, and what it printed."""

    code: int
    text: str


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., Done]:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Done:
        try:
            compare.main(list(words), standalone_mode=False)
        except SystemExit as end:
            return Done(int(end.code or 0), capsys.readouterr().out)
        except LauncherError as error:
            return Done(error.exit_code, str(error))
        raise AssertionError("it always ends by an exit code")

    return run


def make_training(name: str, losses: Sequence[float], batch: int = 8, **result: Any) -> Path:
    """Make the folder of a run of two ranks, a row each ten steps."""
    words = (f"--global_batch_size={batch}", "--predict_file=dev.json")
    run = make_run(Path("runs") / name, words, result=result)
    rows = [
        {"step": 10 * (place + 1), "loss": loss, "learning_rate": 1e-5, "examples_per_second": 100 + place}
        for place, loss in enumerate(losses)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run.rank_dir(0) / "metrics.jsonl").write_text(text.replace("NaN", "null"))
    return run.path


def make_estimator(name: str, losses: Sequence[float], every: int = 10) -> Path:
    """Write the lines of TensorFlow's Estimator, whose steps count from 0."""
    lines = []
    for place, loss in enumerate(losses):
        lines.append(f"INFO:tensorflow:global_step/sec: {6.0 + place % 2}")
        lines.append(f"INFO:tensorflow:loss = {loss}, step = {every * place} (1.600 sec)")
    Path(name).write_text("\n".join(lines) + "\n")
    return Path(name)


def test_two_runs_that_agree_pass_and_one_that_is_off_fails(call: Any) -> None:
    make_training("good", falling(40))
    make_training("same", falling(40, lambda place: 1.001))
    make_training("off", falling(40, lambda place: 1.05))
    done = call("good", "same")
    assert done.code == 0 and "verdict: B against A: pass" in done.text
    done = call("good", "same", "off")
    assert done.code == 1 and "verdict: C against A: fail (loss early, loss late)" in done.text


def test_a_gpu_log_of_another_batch_is_compared_by_examples(call: Any) -> None:
    """32 examples a step there, 8 here: its step 10 is our step 40."""

    def loss(examples: float) -> float:
        return float(1 + 3 * 0.9 ** (examples / 320))

    make_training("ours", [loss(80 * (place + 1)) for place in range(40)])
    make_estimator("gpu.log", [loss(32 * (10 * place + 1)) for place in range(10)])
    done = call("gpu.log", "ours")
    assert done.code == 0 and "give --global-batch A=N" in done.text and "loss: not compared" in done.text
    done = call("gpu.log", "ours", "--global-batch", "A=32", "--json")
    document = json.loads(done.text)["comparisons"][0]
    assert document["aligned"] == {"by": "examples", "places": 9, "problem": ""}
    assert document["loss"]["whole"]["relative"] < 1e-3 and document["outcome"] == "pass"


@pytest.mark.parametrize("name", ["A", "gpu.log", "logs/gpu.log"])
def test_a_hint_names_a_run_by_letter_word_or_file_name(call: Any, name: str) -> None:
    make_training("ours", falling(12))
    Path("logs").mkdir()
    make_estimator("logs/gpu.log", falling(12))
    done = call("logs/gpu.log", "ours", f"--global-batch={name}=8", "--json")
    assert json.loads(done.text)["comparisons"][0]["a"]["global_batch"] == 8


def test_a_hint_for_all_stands_behind_one_for_its_own(call: Any) -> None:
    make_estimator("a.log", falling(12))
    make_estimator("b.log", falling(12))
    done = call("a.log", "b.log", "--global-batch=B=16", "--global-batch=8", "--ranks=4", "--json")
    found = json.loads(done.text)["comparisons"][0]
    assert [(found[side]["global_batch"], found[side]["ranks"]) for side in "ab"] == [(8, 4), (16, 4)]


def test_the_same_log_twice_differs_in_nothing(call: Any) -> None:
    make_estimator("a.log", falling(30))
    done = call("a.log", "a.log", "--global-batch=8")
    assert done.code == 0 and "nowhere beyond 1%" in done.text and "pass" in done.text


def test_scores_and_answers_of_two_runs(call: Any) -> None:
    for name, text, f1 in (("a", "yes", 80.0), ("b", "no", 75.0)):
        folder = make_training(name, falling(20), metrics={"exact": f1, "f1": f1}) / "predictions"
        folder.mkdir()
        (folder / "predictions.json").write_text(json.dumps({f"q{n}": text for n in range(8)}))
    questions = [{"id": f"q{n}", "answers": [{"text": "yes"}]} for n in range(8)]
    Path("dev.json").write_text(json.dumps({"data": [{"paragraphs": [{"qas": questions}]}]}))
    done = call("a", "b")
    assert done.code == 1 and "fail (task)" in done.text
    assert "8 of 8 answers differ; A alone is right 8 times" in done.text  # by predict_file of the runs


def evaluated(run: Path, *f1: float) -> None:
    rows = [{"step": 10 * at, "eval_exact": value - 1, "eval_f1": value} for at, value in enumerate(f1, 1)]
    with (run / "ranks" / "0" / "metrics.jsonl").open("a") as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in rows))


def test_evaluations_while_training_are_compared_where_neither_has_predicted(call: Any) -> None:
    for name, f1 in (("a", (70.0, 80.0, 79.0)), ("b", (70.0, 75.0, 76.0))):
        evaluated(make_training(name, falling(20)), *f1)
    done = call("a", "b")
    shown = [" ".join(line.split()) for line in done.text.splitlines()]
    assert {"eval F1 79.000 76.000 -3.000", "eval best F1 80.000 76.000 -4.000"} <= set(shown)
    assert done.code == 1 and "eval_f1 -3.000" in done.text and "(task)" in done.text
    assert "A: eval: while it trained, 3 time(s), the last at step 30" in done.text


def test_evaluations_are_no_measure_beside_a_prediction(call: Any) -> None:
    make_training("a", falling(20), metrics={"exact": 90.0, "f1": 90.0})
    evaluated(make_training("b", falling(20)), 60.0)
    done = call("a", "b")
    assert done.code == 0 and "EM and F1 are not known on both sides" in done.text


def test_what_the_launcher_said_of_a_run_is_shown_by_the_last_word_on_each(call: Any) -> None:
    words = [f"rank 1 costs the run {cost} %: input, since step 60" for cost in (11, 20)]
    said = [{"kind": "slow input", "ranks": [1], "cost": 0.1, "since": 60, "text": text} for text in words]
    alert = {"kind": "nan", "step": 5, "text": "the loss is NaN at step 5"}
    make_training("a", falling(20), verdicts=said, alerts=[])
    killed = make_training("b", falling(20))
    (killed / "result.json").unlink()
    events = [{"time": 1.0, "event": "alert", "rank": None, "data": alert}, [], {"event": []}]
    (killed / "events.jsonl").write_text("\n".join([*map(json.dumps, events), '{"ev']))
    shown = [" ".join(line.split()) for line in call("a", "b").text.splitlines()]
    assert "what the launcher said" in shown and f"A slow {words[1]}" in shown
    assert f"A slow {words[0]}" not in shown and f"B alert {alert['text']}" in shown
    (one,) = json.loads(call("a", "b", "--json").text)["comparisons"]
    assert (one["a"]["verdicts"], one["b"]["alerts"]) == ([words[1]], [alert["text"]])


def test_a_baseline_of_three_runs(call: Any) -> None:
    for name, by in (("x", 0.999), ("y", 1.0), ("z", 1.001)):
        make_training(name, falling(30, lambda place, by=by: by))  # type: ignore[misc]
    make_training("new", falling(30))
    for words in (["--baseline", "x,y,z"], ["--baseline=x", "--baseline=y", "--baseline=z"]):
        done = call(*words, "new")
        assert done.code == 0 and "D against mean: pass" in done.text
        assert "3 runs, 0.1% at most from their mean" in done.text


def test_the_page_is_written_and_holds_both(call: Any) -> None:
    make_training("a", falling(20))
    make_training("b", falling(20))
    assert call("a", "b", "-o", "page.html").code == 0
    html = Path("page.html").read_text(encoding="utf-8")
    assert html.count("<svg") == 3 and "examples/s, per device" in html and len(html) < 200_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected two runs or logs at least"),
        (["a"], "expected two runs or logs at least"),
        (["--baseline", "a,a"], "expected two runs or logs at least"),
        (["a", "nothing"], "nothing: no such run; runs has a; nor is there a file"),
        (["a", "a", "--ranks", "x"], "--ranks x: invalid (expected NAME=N, or N for all"),
        (["a", "a", "--ranks", "A=0"], "invalid"),
        (["a", "a", "--global-batch", "Z=8"], "no run is called Z (expected A, B)"),
        (["a", "a", "-o", "none/page.html"], "cannot be written: No such file or directory"),
        (["a"] * 27, "27 runs: too many"),
        (["a", "a", "--answers", "none.json"], "--answers: none.json: no such file"),
        (["a", "."], "neither a run of npu-launch nor a known file in it"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_line_and_exit_code_2(call: Any, words: list[str], said: str) -> None:
    make_training("a", falling(5))
    done = call(*words)
    assert done.code == 2 and said in done.text and "\n" not in done.text


@pytest.mark.parametrize("data", [b"", b"\x00\xff\r\n{}[]\nloss = \n"])
def test_a_log_of_nothing_known_is_a_wrong_word(call: Any, data: bytes) -> None:
    Path("noise.log").write_bytes(data)
    make_training("a", falling(5))
    for words in (["noise.log", "a"], ["a", "noise.log"]):
        done = call(*words)
        assert done.code == 2 and done.text.startswith("noise.log: no line has a known form")


def test_a_run_without_rows_is_compared_as_far_as_it_goes(call: Any) -> None:
    make_training("a", [])
    done = call("a", "a")
    assert done.code == 0 and "holds no loss" in done.text and ": not judged" in done.text


def test_a_hint_may_call_the_benchmark_mean(call: Any) -> None:
    for name in "xyz":
        Path(name).write_text("loss = 1.5, step = 10\nglobal_step/sec: 2\nloss = 1.5, step = 20\n")
    done = call("--baseline", "x,y", "z", "--json", "--ranks", "mean=2", "--ranks", "C=3")
    assert [json.loads(done.text)["comparisons"][0][side]["ranks"] for side in "ab"] == [2, 3]


def test_a_run_that_was_nan_from_the_start_fails(call: Any) -> None:
    make_training("a", falling(20))
    make_training("nan", [float("nan")] * 20)
    done = call("a", "nan")
    assert done.code == 1 and "fail (loss early, loss late, NaN)" in done.text


def test_of_rows_without_a_learning_rate_a_lost_loss_counts_and_one_not_asked_for_does_not(call: Any) -> None:
    """As `step(number, loss=...)` of launcher.worker writes them."""
    make_training("a", falling(20))
    for name, other in (("lost", {"loss": None}), ("rare", {"learning_rate": 1e-5})):
        rows = [
            {"step": 10 * place, "examples_per_second": 99, **({"loss": loss} if place % 2 else other)}
            for place, loss in enumerate(falling(20), 1)
        ]
        run = make_run(Path("runs") / name, ("--global_batch_size=8",))
        (run.rank_dir(0) / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "B 10 of 20" in call("a", "lost").text and "B 0 of 10" in call("a", "rare").text


def test_a_fifo_is_refused_and_not_waited_for(call: Any) -> None:
    make_training("a", falling(5))
    os.mkfifo("pipe")
    done = call("a", "pipe")
    assert done.code == 2 and "a FIFO (expected a regular file)" in done.text


def test_halves_of_a_log_give_half_of_the_curve(call: Any) -> None:
    whole = make_estimator("whole.log", falling(40)).read_bytes()
    rng = random.Random(17)
    for size in rng.sample(range(len(whole)), 8):
        Path("half.log").write_bytes(whole[:size])
        assert call("whole.log", "half.log", "--global-batch=8").code in (0, 1)
