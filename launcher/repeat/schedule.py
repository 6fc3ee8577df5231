"""The runs of a repeat: each a process of npu-launch, on the group of devices that is free first."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

from launcher import foreign
from launcher.config.job import JobConfig
from launcher.errors import LauncherError, ReadError, UsageError
from launcher.process import launches
from launcher.repeat.groups import Group
from launcher.repeat.record import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    WAITING,
    Repeat,
    SeedRun,
    with_output,
)
from launcher.run_dir import RunDir
from launcher.runs import registry
from launcher.runs.figures import exact_of, metrics_of
from launcher.runs.stop import stop
from launcher.text import printable

_POLL = 0.1  # seconds
_REFUSED = (2, 78)  # exit codes: the command line, the preflight


class Started(NamedTuple):
    """A launch that runs now."""

    process: launches.Launch[bytes]
    run: SeedRun
    group: Group
    at: float
    before: float  # seconds of its earlier starts


class Schedule:
    """Runs the seeds that have not finished; `announce` gets a line for each start and end."""

    def __init__(self, repeat: Repeat, config: JobConfig, announce: Callable[[str], None]) -> None:
        self.repeat, self._config, self._announce = repeat, config, announce
        self._running: list[Started] = []

    def look(self) -> list[SeedRun]:
        """Return the runs still to do; the runs' folders, and not repeat.json, say which have finished."""
        for run in self.repeat.runs:
            if finished(self.repeat.run_folder(run.seed)):
                run.state, run.exit_code = FINISHED, 0
            elif run.state == RUNNING:
                run.state = INTERRUPTED
        return [run for run in self.repeat.runs if run.state != FINISHED]

    def run(self, waiting: list[SeedRun], groups: Sequence[Group]) -> None:
        """Run them; a signal ends them all and raises SystemExit. A run that fails does not stop the others.

        One that is refused before it begins does, as the others would be.
        """
        free = list(groups)
        try:
            with launches.exit_on_signals():
                while waiting or self._running:
                    while waiting and free:
                        self._start(waiting.pop(0), free.pop(0))
                    time.sleep(_POLL)
                    for started in [item for item in self._running if item.process.poll() is not None]:
                        self._running.remove(started)
                        free.append(started.group)
                        self._ended(started)
                        if started.run.exit_code in _REFUSED:
                            waiting.clear()
        finally:
            launches.end(item.process for item in self._running)
            for item in self._running:
                self._interrupted(item)
            self._save()

    def _start(self, run: SeedRun, group: Group) -> None:
        repeat = self.repeat
        self._clear(run)
        words = ["run", "--devices", ",".join(map(str, group.devices)), repeat.command.job]
        words += repeat.command.overrides
        words += [f"seed={run.seed}", *with_output(self._config.args, run.seed)]
        words += [f"runs_dir={repeat.folder}", f"run_id={repeat.run_id(run.seed)}"]
        again = f" again, after {run.seconds:.0f} s" if run.starts else ""
        self._announce(f"seed {run.seed}: starts{again} on {group}")
        run.state, run.devices, run.starts = RUNNING, list(group.devices), run.starts + 1
        run.exit_code = None
        before = run.seconds
        process = launches.start(words, repeat.log(run.seed), group.cores)
        self._running.append(Started(process, run, group, time.monotonic(), before))
        self._save()

    def _clear(self, run: SeedRun) -> None:
        """End what a repeat that was killed has left of this run."""
        folder = RunDir(self.repeat.run_folder(run.seed))
        if registry.is_run(folder.path) and run.starts:
            try:
                stop(folder)
            except UsageError as error:
                raise LauncherError(f"seed {run.seed}: {error}") from None

    def _ended(self, started: Started) -> None:
        run, code = started.run, started.process.returncode
        run.exit_code = code if code >= 0 else 128 - code
        run.seconds = started.before + time.monotonic() - started.at
        well = code == 0 and finished(self.repeat.run_folder(run.seed))
        run.state = FINISHED if well else FAILED
        self._save()
        done = sum(item.state == FINISHED for item in self.repeat.runs)
        count = f"({done} of {len(self.repeat.runs)} finished)"
        if well:
            said = shown(metrics_of(self.repeat.run_folder(run.seed)))
            self._announce(f"seed {run.seed}: {said}  in {run.seconds:.1f} s {count}")
            return
        log = self.repeat.log(run.seed)
        why = last_line(log)
        self._announce(
            f"seed {run.seed}: failed, exit code {run.exit_code} after {run.seconds:.1f} s {count}: {log}"
        )
        self._announce(f"seed {run.seed}:   {why}")

    def _interrupted(self, item: Started) -> None:
        item.run.seconds = item.before + time.monotonic() - item.at
        code = item.process.returncode
        well = code == 0 and finished(self.repeat.run_folder(item.run.seed))
        item.run.state = FINISHED if well else INTERRUPTED
        item.run.exit_code = code if code >= 0 else 128 - code

    def _save(self) -> None:
        states = {run.state for run in self.repeat.runs}
        self.repeat.state = RUNNING
        if RUNNING not in states:
            order = (INTERRUPTED, FAILED, WAITING)
            self.repeat.state = next((state for state in order if state in states), RUNNING)
        self.repeat.save()


def finished(folder: Path) -> bool:
    """Tell whether a run has ended well."""
    try:
        return foreign.read_json(folder / "result.json", foreign.DOCUMENT).get("exit_code").whole() == 0
    except ReadError:
        return False


def shown(metrics: dict[str, float]) -> str:
    """Write EM and F1; other metrics by their names."""
    exact = exact_of(metrics)
    if exact is not None and "f1" in metrics:
        return f"EM {exact:.3f}  F1 {metrics['f1']:.3f}"
    return "  ".join(f"{name} {value:.6g}" for name, value in metrics.items()) or "no figures"


def last_line(log: Path) -> str:
    """Return the line of a launch's output that says most: the last of the launcher's own, else the last."""
    try:
        lines = foreign.read_bytes(log, foreign.DOCUMENT).decode("utf-8", "replace").splitlines()
    except ReadError as error:
        return str(error)
    own = [line for line in lines if line.startswith("npu-launch: ")]
    return printable((own or [line for line in lines if line.strip()] or ["no output"])[-1])[:300]
