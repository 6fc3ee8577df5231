"""npu-launch compare: a run beside others, or beside the logs of other programs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Sequence, TypeVar

import click

from launcher.errors import ReadError, UsageError
from launcher.output import echo, echo_json

F = TypeVar("F", bound=Callable[..., Any])
if TYPE_CHECKING:
    from launcher.compare.comparison import Side


def _hint(flag: str, text: str) -> Callable[[F], F]:
    return click.option(flag, metavar="[NAME=]N", multiple=True, help=text)


@click.command()
@click.argument("runs", nargs=-1)
@click.option(
    "--baseline", metavar="RUN", multiple=True,
    help="A run of the benchmark, instead of the first of RUNS; several (a,b,c): their mean and band.",
)  # fmt: skip
@click.option(
    "--rule", type=click.Choice(["pretrain", "finetune"]),
    help="How the loss is judged: 1 % mean relative error early and late, or 0.02 mean absolute error; "
    "default: finetune where a side has EM or F1.",
)  # fmt: skip
@_hint("--global-batch", "Examples of a step of all devices: N, or A=N, B=N, ...")
@_hint("--ranks", "Devices.")
@_hint("--iterations-per-loop", "Steps between two lines of a log without step numbers.")
@click.option(
    "--answers", metavar="FILE", help="SQuAD file with the true answers; default: a run's predict_file."
)
@click.option("-o", "--output", metavar="FILE", help="Also write a page (HTML, one file) with the curves.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@click.option(
    "--runs-dir", metavar="DIR", default="runs", show_default=True, help="Folder that holds the run folders."
)
def compare(
    runs: Sequence[str],
    baseline: Sequence[str],
    rule: str | None,
    global_batch: Sequence[str],
    ranks: Sequence[str],
    iterations_per_loop: Sequence[str],
    answers: str | None,
    output: str | None,
    as_json: bool,
    runs_dir: str,
) -> None:
    """Compare runs with the first, by examples seen: loss, rate, EM and F1; exit code 1 if a rule fails.

    RUNS: names or paths of runs of npu-launch, or files: logs of NVIDIA's and Huawei's BERT, of TensorFlow's
    Estimator, DLLogger, MindSpore and Hugging Face's Trainer, metrics.jsonl, TensorBoard's events. They are
    called A, B, C, ... in their order, those of --baseline first.
    """
    from launcher.compare import document, table
    from launcher.compare.comparison import compare as beside
    from launcher.compare.sides import read_sides

    first = [word for text in baseline for word in text.split(",") if word]
    if len(runs) + len(first) < 2 or not runs:
        raise UsageError("nothing to compare (expected two runs or logs at least: npu-launch compare A B)")
    hints = {"global_batch": global_batch, "ranks": ranks, "iterations_per_loop": iterations_per_loop}
    split = max(1, len(first))
    sides = read_sides([*first, *runs], hints, runs_dir, split)
    truth = _checked(answers) if answers else _predict_file(sides)
    found = [beside(sides[:split], side, rule or "", truth) for side in sides[split:]]
    if output:
        from launcher.compare import page

        _write(Path(output), page.render(found))
    if as_json:
        echo_json(document.document(found))
    else:
        width = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 160
        for place, one in enumerate(found):
            echo(*([""] if place else []), *table.lines(one, width))
    sys.exit(1 if any(one.outcome == "fail" for one in found) else 0)


def _checked(answers: str) -> Path:
    """Return the path of a file of true answers. UsageError: it is none."""
    from launcher.compare.answers import read_truth

    try:
        read_truth(Path(answers))
    except ReadError as error:
        raise UsageError(f"--answers: {error}") from None
    return Path(answers)


def _predict_file(sides: Sequence[Side]) -> Path | None:
    """Return the file with the questions of a run, where it is still there."""
    for side in sides:
        name = {**side.curve.settings, **side.settings}.get("predict_file")
        if name and Path(name).is_file():
            return Path(name)
    return None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}; choose another file for -o") from None
