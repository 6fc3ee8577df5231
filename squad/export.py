"""npu-launch export: bert.export, and with --dev FILE what an .onnx file loses of F1 on its questions.

python -m squad.export CHECKPOINT FOLDER --format onnx-int8 --dev dev-v2.0.json [--evaluation cmrc]
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from bert import backend as backends
from bert import environment, export, onednn
from bert.checkpoints.chosen import chosen
from bert.checkpoints.store import sha256
from bert.cluster import Cluster
from bert.config import BertConfig
from bert.errors import CheckpointError
from squad import evaluate, evaluation, null_threshold, prediction, task
from squad.check import check
from squad.data import batching, squad_file
from squad.data.tokenizer import Tokenizer
from squad.errors import DataError
from squad.job import Dataset, Job
from squad.load import load

if TYPE_CHECKING:
    from bert.backend.engine import Engine
    from squad.answers.nbest import Answers
    from squad.data.questions import Question

_FIGURES = (("F1", "f1"), ("EM", "exact"), ("span F1", "span_f1"), ("AVERAGE", "average"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code, as bert.export's."""
    parser = export.parser()
    parser.add_argument(
        "--dev", default="", help="onnx formats: question file on which to measure the loss of F1"
    )
    parser.add_argument(
        "--evaluation",
        default="",
        choices=("squad", "cmrc"),
        help="with --dev: whose rules score the answers; default: as the run was evaluated, else SQuAD's",
    )
    options = parser.parse_args(argv)
    options.checkpoint = chosen(options.checkpoint)  # once, as a run may save another one meanwhile
    problem = _problem(options.format, options.dev)
    if problem:
        print(f"export: --dev: {problem}", file=sys.stderr)
        return 2
    code = export.run(options)
    if code or not options.format.startswith("onnx"):
        return code
    if options.dev:
        try:
            with environment.quiet():
                lines = loss(
                    options.checkpoint,
                    options.folder,
                    options.dev,
                    options.evaluation,
                    options.format == "onnx-int8",
                )
        except (CheckpointError, DataError, OSError) as error:
            print(f"export: {options.folder} is written, but not measured: {error}", file=sys.stderr)
            return 2
    elif options.format == "onnx-int8":
        lines = ["loss of F1: not measured; give --dev FILE with questions and answers"]
    else:
        return 0
    print(*lines, sep="\n")
    with open(os.path.join(options.folder, "README.md"), "a", encoding="utf-8") as stream:
        stream.writelines(f"- {line}\n" for line in lines)
    return 0


def _problem(form: str, dev: str) -> str:
    if not dev:
        return ""
    if not form.startswith("onnx"):
        return f"{form} is not measured; leave it out"
    if not os.path.exists(dev):
        return f"{dev}: no such file"
    found = squad_file.problem(dev)
    if found:
        return found
    try:
        evaluate.read_questions(squad_file.load_questions(dev), dev, references=True)
    except (DataError, OSError) as error:
        return str(error)
    return ""


def loss(checkpoint: str, folder: str, dev: str, rules: str = "", int8: bool = False) -> list[str]:
    """Answer a file by the checkpoint in TensorFlow and by the export; return lines of figures.

    With scores of "no answer" they are those at threshold 0, and at the one that the model is asked with. An
    int8 export of a model that keeps one gets its own, as rounding moves these scores.

    Raises:
        DataError: a file cannot be used, or has questions without reference answers.
        CheckpointError: a model cannot be loaded.
    """
    from bert.onnx.engine import OnnxEngine

    questions = evaluate.read_questions(squad_file.load_questions(dev), dev, references=True)
    job = _job(folder, dev, questions, rules)
    data = load(job, dev, training=False)
    thresholds = _thresholds(folder, job, dev)
    onednn.ask(os.environ, "cpu")
    engine = backends.create(Cluster(), "cpu")
    before = _Answered(engine, checkpoint, job, data, questions)
    after = _Answered(OnnxEngine(Cluster(), folder), folder, job, data, questions)
    about = f"on {os.path.basename(dev)}, {len(questions)} questions"
    lines = [
        f"{about}{text}, in TensorFlow {_compared(before.figures(limit), after.figures(limit))}"
        for limit, text in thresholds.items()
    ]
    if int8 and len(thresholds) > 1:
        found, kept = after.search(dev), list(thresholds)[-1]
        null_threshold.put(folder, found)
        text = (
            f"at {found['f1']:.6g}, searched on this file and kept in its place, in TensorFlow at {kept:.6g}"
        )
        lines.append(f"{about}, {text} {_compared(before.figures(kept), after.figures(found['f1']))}")
    return lines


def _job(folder: str, dev: str, questions: Sequence[Question], rules: str) -> Job:
    """Ask as the export's files say; a file with questions without answer is of SQuAD 2.0."""
    words = [f"--init_checkpoint={folder}", "--engine=onnxruntime", "--do_predict", f"--predict_file={dev}"]
    if not all(question.answers for question in questions):
        words.append("--version_2_with_negative")
    if rules:
        words.append(f"--evaluation={rules}")
    flags, findings, _ = check([*words, f"--output_dir={folder}"], os.environ)
    if findings:
        raise DataError("; ".join(f"{flag}: {text}" for flag, text in findings))
    return Job(flags, Cluster(), Tokenizer(flags.vocab_file, *flags.text_rules))


def _thresholds(folder: str, job: Job, dev: str) -> dict[float, str]:
    """Map the thresholds to measure at to the words for them."""
    if not job.flags.version_2_with_negative:
        return {0.0: ""}
    if task.read(folder).threshold is None:
        return {0.0: ", at threshold 0, as it is asked"}
    kept = null_threshold.of_checkpoint(folder)
    own = ", searched on this file" if kept.sha256 == sha256(dev) else kept.origin
    return {0.0: ", at threshold 0", kept.value: f", at threshold {kept.value:.6g}, as it is asked{own}"}


class _Answered:
    """The questions as one engine answers them, which is closed."""

    def __init__(
        self, engine: Engine, checkpoint: str, job: Job, data: Dataset, questions: Sequence[Question]
    ) -> None:
        self._job, self._data, self._questions = job, data, questions
        model = BertConfig.from_file(job.flags.bert_config_file)
        try:
            self._logits = batching.logits_of(
                data.features,
                lambda batches: engine.predict(model, checkpoint, batches, model.gelu),
                job.flags.predict_batch_size,
                engine.static_shapes,
            )
        finally:
            engine.close()

    def figures(self, threshold: float) -> dict[str, float]:
        """Score the answers at a threshold."""
        return evaluation.figures_of(self._job, self._questions, self._answers(threshold), threshold)

    def search(self, dev: str) -> dict[str, Any]:
        """Search the best thresholds, as null_threshold.search does."""
        data = {"name": os.path.basename(dev), "sha256": sha256(dev)}
        return null_threshold.search(self._questions, self._answers(0.0), data, self._job.flags.evaluation)

    def _answers(self, threshold: float) -> Answers:
        return prediction.find_answers(self._job, self._data, *self._logits, threshold)


def _compared(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Format the figures of both, and their differences."""
    return "; ".join(
        f"{name} {before[key]:.3f}, here {after[key]:.3f} ({after[key] - before[key]:+.3f})"
        for name, key in _FIGURES if key in before
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
