"""The NPU programs that are run over an adapter: what each does, and what must come of it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping

from tests.adapter import ranks
from tests.adapter.tiny_job import ENDS, LOOP, STEPS

SCALE = 1024  # of the loss: static, or the first of the dynamic one; nothing overflows by it
MORE = 16  # steps to which the run of 12 is resumed
LOOPS = "loops of 4 2 4 2, dynamic loss scale, predict"
RESUME = f"resume from step {STEPS} to {MORE}"
# What two ranks of tests/npu/programs/backend.py add up in loops of 3, 3 and 2 steps (2 i + 1 in step i), and
# the step left out as rank 1 overflows in it.
_TOTAL, _COUNTS, _OVERFLOW = [64.0 - 3.0] * 2, [3, 3, 2], "1:2"


@dataclass(frozen=True)
class Setting:
    """Where the programs run: the interpreter and environment of the ranks, and their devices."""

    python: str
    env: Mapping[str, str]
    job: Path  # folder of the tiny job
    devices: str = "0-1"
    stand_ins: bool = True

    @property
    def first(self) -> str:
        """The first of the devices, for the run by one rank less."""
        return self.devices.replace("-", ",").split(",")[0]


@dataclass
class Outcome:
    """What came of a program: problems (none: it passed), and what is worth telling."""

    name: str
    problems: list[str] = dataclasses.field(default_factory=list)
    told: str = ""
    folder: Path = Path()


@dataclass(frozen=True)
class Case:
    """A training: what is given, the steps at which its calls end, and the loss scale that it shows."""

    name: str
    words: list[str]
    ends: list[int]
    scale: float = float(SCALE)
    answers: bool = False
    compared: bool = True  # with the same on CPU


def run_all(setting: Setting) -> Iterator[Outcome]:
    """Run every program, the resumed one behind the run that it goes on from."""
    if setting.stand_ins:  # made for a table that is not this machine's
        yield _collectives(setting)
    for case in _cases(setting.job / "kept"):
        yield _train(setting, case)
    # Resumed where the last case ended, on the first device alone.
    words = [*_dynamic(setting.job / "kept"), f"num_train_steps={MORE}", "num_train_epochs=9"]
    one = dataclasses.replace(setting, devices=setting.first)
    fewer = " by one rank" if one.devices != setting.devices else ""
    yield _train(one, Case(RESUME + fewer, words, [MORE], answers=True))


def _cases(kept: Path) -> Iterator[Case]:
    single = ["iterations_per_loop=1", "npu_bert_loss_scale=-1", *_steps(3)]
    yield Case("one step a call, no loss scale", single, [1, 2, 3], scale=1.0)
    static = [*_looped(), f"npu_bert_loss_scale={SCALE}"]
    yield Case(f"loop of 4, loss scale {SCALE}", [*static, *_steps(6)], [4, 6])
    # The norm counts a word once where its gradient is dense, so nothing is clipped by it here.
    plain = ["clip=none", "npu_bert_fused_gelu=False", "npu_bert_npu_dropout=False", "npu_gather=True"]
    yield Case("TensorFlow's gelu, dense gather", [*static, *plain, *_steps(4)], [4])
    dropping = [*static, "npu_bert_debug=false", *_steps(4)]
    yield Case("the device's dropout", dropping, [4], compared=False)
    yield Case(LOOPS, _dynamic(kept), ENDS, answers=True)


def _dynamic(kept: Path) -> list[str]:
    scale = ["npu_bert_loss_scale=0", f"init_loss_scale_value={SCALE}"]
    return [*_looped(), *scale, f"output_dir={kept}"]


def _looped() -> list[str]:
    return [f"iterations_per_loop={LOOP}"]


def _steps(count: int) -> list[str]:
    return [f"num_train_steps={count}", "do_predict=false"]


def _collectives(setting: Setting) -> Outcome:
    folder = setting.job / "collectives"
    folder.mkdir()
    options = json.dumps({"iterations_per_loop": max(_COUNTS), "npu_gather": True})
    args = [options, json.dumps(_COUNTS)]
    env = {**setting.env, "NPU_SIMULATOR_OVERFLOW": _OVERFLOW}
    ended = ranks.run(folder, "backend.py", 2, env, args, setting.python)
    outcome = Outcome("collectives, loop, overflow flag on two ranks", folder=folder)
    if ended.codes != [0, 0]:
        outcome.problems = [f"exit codes {ended.codes}: {ranks.last_line(ended.output[-1])}"]
    elif any(ended.answers(rank)["total"] != _TOTAL for rank in (0, 1)):
        outcome.problems = [f"sums {ended.answers()['total']}, not {_TOTAL}"]
    return outcome


def _train(setting: Setting, case: Case) -> Outcome:
    """Train on the device and on CPU; the losses at the ends of the loops must agree, and the answers."""
    outcome = Outcome(case.name)
    npu, outcome.folder, said = _launch(setting, "npu", case.words)
    if npu:
        outcome.problems = [f"exit code {npu}: {said}"]
        return outcome
    shown = metrics(outcome.folder)
    if sorted(shown) != case.ends:
        outcome.problems.append(f"steps {sorted(shown)}, not {case.ends}")
    scales = {line.get("loss_scale") for line in shown.values()}
    skipped = max((line.get("skipped_steps", 0) for line in shown.values()), default=0)
    if scales != {case.scale} and not skipped:
        outcome.problems.append(f"loss scales {scales}, not {case.scale}")
    outcome.told = f"steps {' '.join(map(str, sorted(shown)))}" + (f", {skipped} skipped" if skipped else "")
    if case.compared:
        _compare(setting, case, outcome)
    return outcome


def _compare(setting: Setting, case: Case, outcome: Outcome) -> None:
    code, folder, said = _launch(setting, "cpu", [word.replace("/kept", "/kept_cpu") for word in case.words])
    if code:
        outcome.problems.append(f"on CPU: exit code {code}: {said}")
        return
    ours, theirs = losses(outcome.folder), losses(folder)
    worst = max((abs(ours[step] / theirs[step] - 1) for step in ours if step in theirs), default=1.0)
    bound = 1e-4 if setting.stand_ins else 0.05  # a device computes in float16
    if worst > bound:
        outcome.problems.append(f"losses differ from CPU's by {worst:.1e}, more than {bound:g}")
    outcome.told += f"; losses within {worst:.1e} of CPU's"
    if case.answers:
        mine, other = (_answers(run, case, name) for run, name in ((outcome.folder, ""), (folder, "_cpu")))
        same = sum(mine[key] == other.get(key) for key in mine)
        outcome.told += f"; {same} of {len(mine)} answers the same"
        if setting.stand_ins and (same != len(mine) or not mine):
            outcome.problems.append(f"{len(mine) - same} answers differ")


def losses(folder: Path) -> dict[int, float]:
    """Read the losses of a run by their steps."""
    return {step: line["loss"] for step, line in metrics(folder).items()}


def metrics(folder: Path) -> dict[int, dict[str, Any]]:
    """Read what rank 0 has written of each step."""
    lines = (folder / "ranks" / "0" / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line for line in map(json.loads, lines) if "loss" in line}


def _answers(folder: Path, case: Case, suffix: str) -> dict[str, str]:
    given = next((word.partition("=")[2] for word in case.words if word.startswith("output_dir=")), "")
    place = Path(given + suffix) if given else folder / "predictions"
    return json.loads((place / "predictions.json").read_text())


def _launch(setting: Setting, backend: str, words: list[str]) -> tuple[int, Path, str]:
    """Run npu-launch; give its exit code, the run's folder, and why it failed."""
    command = [setting.python, "-m", "launcher", "--backend", backend, "--devices", setting.devices]
    if setting.stand_ins:
        command += ["--inventory", "inventory.yaml", "--skip-preflight", "devices,host"]
    gelu = [] if "npu_bert_fused_gelu=False" in words or backend == "npu" else ["gelu=tanh"]
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **setting.env}
    if setting.stand_ins:  # devices that are not there are not to be held against other runs
        environ["NPU_LAUNCH_LOCK_DIR"] = str(setting.job / "locks")
    done: Any = subprocess.run(
        [*command, "job.yaml", *words, *gelu], cwd=str(setting.job), env=environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    folder = (setting.job / "runs" / "latest").resolve()
    return done.returncode, folder, _reason(done.stdout.splitlines())


def _reason(lines: list[str]) -> str:
    """Choose the line that says why a run failed: what failed first, or the last one that is no warning."""
    told = [line for line in lines if "failed first" in line or ": preflight: " in line]
    return (told or [line for line in reversed(lines) if ": warning: " not in line] or [""])[0]
