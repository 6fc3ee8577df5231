"""Report a training's progress: lines, metrics.jsonl, TensorBoard's scalars, a bar on a terminal."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import tensorflow.compat.v1 as tf

from bert import heartbeat
from bert.backend.base import Backend
from bert.bar import Bar
from bert.train_config import TrainConfig

if TYPE_CHECKING:
    from bert.evaluation import Standing
    from bert.interfaces import Tensor

_FIGURES = {"exact": "EM", "f1": "F1", "span_f1": "span F1"}  # as they are shown


class Meter:
    """The speed of a training, in real examples per second.

    Overhead means the first call, in which the graph is prepared, and saving checkpoints.
    """

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._calls = 0
        self._all = 0
        self._seconds, self._examples, self._steps = 0.0, 0, 0  # of all calls but the first
        self._mark = (0.0, 0)

    def call(self, seconds: float, examples: int, steps: int) -> None:
        """Count a call that made `steps` steps over `examples` examples of all ranks."""
        self._calls += 1
        self._all += examples
        if self._calls > 1:
            self._seconds, self._examples = self._seconds + seconds, self._examples + examples
            self._steps += steps

    def interval(self) -> float:
        """Compute the examples per second, over all ranks, since the last call; 0: not known yet."""
        seconds, examples = self._seconds - self._mark[0], self._examples - self._mark[1]
        self._mark = (self._seconds, self._examples)
        return examples / seconds if seconds else 0.0

    def seconds_a_step(self) -> float:
        """Compute the mean over all calls except the first; 0: not known yet."""
        return self._seconds / self._steps if self._steps else 0.0

    def with_overhead(self) -> float:
        """Compute the examples per second of the whole training."""
        return self._all / max(time.monotonic() - self._begin, 1e-9)

    def without_overhead(self) -> float:
        """Compute the examples per second of the steps alone; 0: there was only one call."""
        return self._examples / self._seconds if self._seconds else 0.0

    def summary(self, step: int, ranks: int) -> str:
        """Describe both in a line."""
        parts = []
        for rate, text in (
            (self.with_overhead(), "with overhead"),
            (self.without_overhead(), "without (first call, checkpoints)"),
        ):
            if rate:
                parts.append(f"{rate:.2f} examples/s {text}, {rate / ranks:.2f} per device")
        seconds = time.monotonic() - self._begin
        head = f"trained to step {step}: {self._all} examples in {duration(seconds)}"
        return "; ".join([head, *parts])


class Progress:
    """The reports of a training: every rank writes its metrics.jsonl, rank 0 also prints and draws."""

    def __init__(
        self, config: TrainConfig, backend: Backend, start: int, output_dir: str, rank_dir: str
    ) -> None:
        self._config, self._rank, self._ranks = config, backend.rank, backend.size
        self.meter = Meter()
        self.counters = heartbeat.Counters(config.num_train_steps, backend.waited is not None)
        self._counted = self.counters.record()
        self._shown = start
        self._skipped: float | None = None
        path = os.path.join(rank_dir, "metrics.jsonl")
        self._metrics = open(path, "a", encoding="utf-8", buffering=1) if rank_dir else None
        self._events = Events(os.path.join(output_dir, "tb"), start) if self._rank == 0 else None
        self._bar = Bar("train", config.num_train_steps, start) if self._rank == 0 else None

    def step(self, step: int, result: dict[str, Any]) -> None:
        """Record a call that ended at `step`; print it if a display interval has passed."""
        if self._bar:
            self._bar.show(step)
        self._report_overflow(step, result)
        every = self._config.display_loss_steps
        if step // every == self._shown // every and step < self._config.num_train_steps:
            return
        self._shown = step
        record = self._record(step, result)
        if self._metrics:
            own = float(result["own_loss"]) * self._ranks
            line = {**record, "own_loss": _finite(own), **self._interval()}
            self._metrics.write(json.dumps(line) + "\n")
        if self._events:
            self._events.write(step, record)
        if self._rank == 0:
            print(self._line(record), flush=True)

    def _report_overflow(self, step: int, result: dict[str, Any]) -> None:
        skipped, before = float(result["skipped"]), self._skipped
        self._skipped = skipped
        if self._rank == 0 and before is not None and skipped > before:
            count = f"{skipped - before:.0f} step{'' if skipped - before == 1 else 's'}"
            scale = f"loss scale {result['scale']:g}"
            print(f"step {step}: {count} skipped, the gradients overflow; {scale}", flush=True)

    def _record(self, step: int, result: dict[str, Any]) -> dict[str, Any]:
        rate = self.meter.interval()
        record = {
            "step": step, "loss": float(result["loss"]), "learning_rate": float(result["rate"]),
            "gradient_norm": float(result["norm"]), "loss_scale": float(result["scale"]),
            "skipped_steps": int(result["skipped"]), "examples_per_second": rate,
            "examples_per_second_per_device": rate / self._ranks, "time": time.time(),
        }  # fmt: skip
        if self._config.steps_per_epoch:
            record["epoch"] = step / self._config.steps_per_epoch
        return {key: _finite(value) for key, value in record.items()}

    def _interval(self) -> dict[str, float | None]:
        """Return what the counters have gained since the last call."""
        before, self._counted = self._counted, self.counters.record()
        gained = {
            name: None if value is None else round(value - (before[name] or 0), 6)
            for name, value in self._counted.items()
        }
        return {name if name.endswith("_s") else f"interval_{name}": value for name, value in gained.items()}

    def _line(self, record: dict[str, Any]) -> str:
        words = [f"step {record['step']}/{self._config.num_train_steps}"]
        if "epoch" in record:
            words.append(f"epoch {record['epoch']:.2f}")
        words += [f"loss {record['loss']:.4f}", f"lr {record['learning_rate']:.3g}"]
        if self._config.npu_bert_loss_scale >= 0:
            words.append(f"scale {record['loss_scale']:g}")
        if record["examples_per_second"]:
            rate, each = record["examples_per_second"], record["examples_per_second_per_device"]
            words.append(f"{rate:.1f} examples/s ({each:.1f} per device)")
            left = (self._config.num_train_steps - record["step"]) * self.meter.seconds_a_step()
            words.append(f"{duration(left)} left")
        return "  ".join(words)

    def evaluation(self, step: int, standing: Standing) -> None:
        """Record the figures of an evaluation; only rank 0 does."""
        if self._rank:
            return
        figures, judge = standing.figures, self._config.judged_by
        best = f"best {_FIGURES.get(judge, judge)} {standing.best[judge]:.1f}"
        best += f" at step {standing.best_step}" if standing.without_gain else ""
        shown = [f"{text} {figures[name]:.1f}" for name, text in _FIGURES.items() if name in figures]
        print(f"step {step}: {' '.join(shown)} ({best})", flush=True)
        if self._metrics:
            # No name of a training's row: its readers take these rows for what they are.
            named = {f"eval_{name}": value for name, value in figures.items()}
            self._metrics.write(json.dumps({"step": step, **named, "time": time.time()}) + "\n")
        if self._events:
            self._events.write(step, {f"eval/{name}": value for name, value in figures.items()})

    def close(self, step: int) -> None:
        """Print the summary and close the files."""
        if self._rank == 0:
            print(self.meter.summary(step, self._ranks), flush=True)
            rate = self.meter.without_overhead() or self.meter.with_overhead()
            heartbeat.artifact({"kind": "metrics", "values": {"train_examples_per_second": rate}})
        for part in (self._metrics, self._events, self._bar):
            if part:
                part.close()


def _finite(value: float) -> float | None:
    """Return null for infinities, as JSON has no such number: an overflow makes the norm infinite."""
    return value if abs(value) < float("inf") else None


class Events:
    """The scalars for TensorBoard."""

    def __init__(self, folder: str, start: int) -> None:
        # A file's name holds its second only: a resumption within one would overwrite what is there.
        self._writer = tf.summary.FileWriter(folder, filename_suffix=f".{os.getpid()}.{start}")
        if start:  # makes TensorBoard discard what a killed run wrote after its last checkpoint
            log = tf.SessionLog(status=tf.SessionLog.START)
            self._writer.add_session_log(log, global_step=start + 1)

    def write(self, step: int, record: dict[str, Any]) -> None:
        """Add the record's figures."""
        values: list[Tensor] = [
            tf.Summary.Value(tag=tag, simple_value=value)
            for tag, value in sorted(record.items())
            if tag not in ("step", "time") and value is not None
        ]
        self._writer.add_summary(tf.Summary(value=values), step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def duration(seconds: float) -> str:
    """Format seconds for people: 4.2 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s"
