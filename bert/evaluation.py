"""Evaluations during a training: when they are due, which was the best, when no better one is waited for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterator, Mapping

from bert import heartbeat
from bert.backend.base import Backend
from bert.train_config import TrainConfig

if TYPE_CHECKING:
    from bert.interfaces import Evaluation, Logits, PredictBatch
    from bert.predictor import Predictor
    from bert.progress import Progress
    from bert.stopping import StopRequest


@dataclass(frozen=True)
class Standing:
    """What the evaluations of a run have shown; a checkpoint's JSON holds it as `evaluation`."""

    done: int = 0
    without_gain: int = 0  # evaluations in a row that were not better than the best
    best_step: int = 0  # 0: there is none
    best: Mapping[str, float] = dataclasses.field(default_factory=dict)  # its figures
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)  # of this very step
    pending: bool = False  # the evaluation of this step was cut short

    @classmethod
    def is_one(cls, held: Any) -> bool:
        """Tell whether a checkpoint's `evaluation` can be read; one that has none can."""
        if held is None:
            return True
        usual = dataclasses.asdict(cls())
        if not isinstance(held, dict) or not all(
            isinstance(held.get(name, value), type(value)) for name, value in usual.items()
        ):
            return False
        figures = [*held.get("best", {}).values(), *held.get("figures", {}).values()]
        return all(isinstance(value, (int, float)) for value in figures)

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Standing:
        """Read it out of a checkpoint's JSON; one of a run without evaluations has none."""
        held = facts.get("evaluation")
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: held[name] for name in names if name in held} if isinstance(held, dict) else {})

    def after(self, step: int, figures: Mapping[str, float], judged_by: str) -> Standing:
        """Return the standing after an evaluation; of equal ones the first is the best."""
        if not self.best or figures[judged_by] > self.best[judged_by]:
            return Standing(self.done + 1, 0, step, figures, figures)
        return Standing(self.done + 1, self.without_gain + 1, self.best_step, self.best, figures)

    def between(self) -> Standing:
        """Return the standing at a step without evaluation."""
        return dataclasses.replace(self, figures={}, pending=False)

    def over(self, config: TrainConfig) -> bool:
        """Tell whether the training ends here, as no better evaluation is waited for."""
        return bool(self.best) and 0 < config.early_stopping_patience <= self.without_gain

    def why_over(self, config: TrainConfig) -> str:
        """Say why it ends."""
        best = f"{self.best[config.judged_by]:.3f} of step {self.best_step}"
        return f"{config.judged_by} was not above {best} in {self.without_gain} evaluations"


class Evaluations:
    """The evaluations of a training that runs, on all ranks."""

    def __init__(
        self,
        evaluation: Evaluation | None,
        predictor: Predictor | None,
        config: TrainConfig,
        backend: Backend,
        progress: Progress,
        stop: StopRequest,
        standing: Standing,
    ) -> None:
        self._evaluation, self._predictor = evaluation, predictor
        self._config, self._backend, self._progress, self._stop = config, backend, progress, stop
        self.standing = standing

    @property
    def asked(self) -> bool:
        """Tell whether there are any."""
        return self._evaluation is not None and self._config.eval_steps > 0

    def due(self, at: int) -> bool:
        """Tell whether to evaluate after a step: every eval_steps, and after the last one."""
        every, last = self._config.eval_steps, self._config.num_train_steps
        return self.asked and (at % every == 0 or at == last)

    def step(self, at: int, stopping: bool) -> bool:
        """Evaluate after a step if it is due; return whether the run is to be saved and left.

        stopping: it is, so an evaluation that is due is left to the run that goes on from here.
        """
        self.standing = self.standing.between()
        if not self.due(at):
            return stopping
        return self.run(at) if not stopping else self._put_off()

    def run(self, at: int, step: int = 0) -> bool:
        """Evaluate; return whether it was cut short, to save and leave.

        step: of the checkpoint that holds these weights, if that is not `at`.
        """
        with self._progress.counters.apart():
            figures = self._measure()
        if figures is None:
            return self._put_off()
        self.standing = self.standing.after(step or at, figures, self._config.judged_by)
        self._progress.evaluation(at, self.standing)
        return False

    @property
    def saves(self) -> bool:
        """Tell whether this step's checkpoint is to be kept: it is the best, or the last one."""
        if self.standing.over(self._config):
            return True
        return bool(self._config.keep_best and self.standing.figures) and not self.standing.without_gain

    @property
    def over(self) -> bool:
        """Tell whether the training ends here."""
        return self.standing.over(self._config)

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint's JSON says of them."""
        if self._evaluation is None:
            return {}
        about = self._evaluation.about if self.standing.figures else {}
        return {**about, "evaluation": dataclasses.asdict(self.standing)}

    def _put_off(self) -> bool:
        self.standing = dataclasses.replace(self.standing, pending=True)
        return True

    def _measure(self) -> Mapping[str, float] | None:
        if self._evaluation is None:
            return None
        figures = self._evaluation.measure(self._outputs, self._stopped)
        heartbeat.beat("evaluate")
        return figures

    def _outputs(self, batches: Iterator[PredictBatch]) -> Iterator[Logits]:
        """Yield the logits of batches, up to a signal that ends the run."""
        heartbeat.beat("evaluate")
        outputs = self._predictor.run_all(batches) if self._predictor else iter(())
        for number, logits in enumerate(outputs, 1):
            heartbeat.beat("evaluate", number)
            yield logits
            if self._stop.requested:
                return

    def _stopped(self) -> bool:
        """Tell on all ranks alike whether one of them is to end; each calls it when its batches are done.

        Outside of StopRequest.call: what the others still compute takes longer than a step.
        """
        return any(self._backend.all_gather(bool(self._stop.requested)))
