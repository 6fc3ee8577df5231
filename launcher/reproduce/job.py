"""The job of a run as its folder holds it, and the command line that starts it again."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import Mapping, Sequence

from launcher.config.job import load
from launcher.errors import ConfigError, ReadError
from launcher.masking import MASK, mask
from launcher.plan.command import WORKER
from launcher.plan.environment import is_telling
from launcher.plan.model import Plan, RankSpec
from launcher.profiles.choice import profile
from launcher.run_dir import RunDir
from launcher.runs.registry import read_plan
from launcher.runs.submitted import is_submitted
from rank_table.ranges import spell

_BY_LAUNCHER = ("OMP_NUM_THREADS",)  # unless the shell has it, which the run does not tell
_DEFAULTS = {"HCCL_CONNECT_TIMEOUT": "600"}


@dataclass(frozen=True)
class Job:
    """A run's job. folder: where npu-launch was called. words: after npu-launch.

    environ: variables of the shell that the ranks had. secrets: keys of train.yaml that are masked. unknown:
    what the run does not tell, one line each.
    """

    folder: str
    words: tuple[str, ...]
    environ: Mapping[str, str]
    secrets: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    plan: Plan | None = None

    def line(self, here: Mapping[str, str] | None = None) -> str:
        """Return the command for a shell; of the variables those that are not so `here`."""
        differing = {name: value for name, value in self.environ.items() if (here or {}).get(name) != value}
        sets = [f"{name}={shlex.quote(value)}" for name, value in sorted(differing.items())]
        words = [*sets, "npu-launch", *map(shlex.quote, self.words)]
        return (f"cd {shlex.quote(self.folder)} && " if self.folder else "") + " ".join(words)


def read(run: RunDir) -> Job:
    """Read the job of a run. ReadError: its folder holds none that can be started."""
    if not os.path.isfile(str(run.job_yaml)):
        raise ReadError(f"{run.path.name}: train.yaml: not there; without it the job is not known")
    try:
        with open(str(run.job_yaml), encoding="utf-8", errors="replace") as stream:
            text = stream.read(1 << 18)
    except OSError as error:
        raise ReadError(f"{run.path.name}: train.yaml: {error.strerror}") from None
    plan, unknown = _plan(run)
    spec = (plan.local_ranks or plan.ranks)[0] if plan and plan.ranks else None
    words: list[str] = [str(run.job_yaml), *_devices(plan)]
    if spec and re.search(r"^program: ''$", text, re.M):  # of a release that did not keep the command
        words += ["--", *_typed(spec, _flags(run))]
        unknown.append("the command as it was typed: rebuilt from plan.json, as an older npu-launch ran it")
    folder = spec.env.get("NPU_LAUNCH_CWD", "") if spec else ""
    if spec and not folder:
        unknown.append("the folder where npu-launch was called: plan.json does not name it")
    if is_submitted(run.path):
        unknown.append(
            "the options of `npu-launch submit`: a queue ran it, the command starts it without one"
        )
    if plan and plan.hosts:
        unknown.append(f"the engine's options: it ran on {len(plan.hosts)} hosts, start it in an allocation")
    return Job(folder, tuple(words), _variables(spec), _secrets(text, words), tuple(unknown), plan)


def _devices(plan: Plan | None) -> list[str]:
    """Name the devices of each host where an engine may have given them: train.yaml has the default then."""
    if plan is None or not plan.hosts:
        return []
    of = {
        server: [one.device_id for one in plan.ranks if one.server_id == server]
        for server in (host.server_id for host in plan.hosts)
    }
    lists = {spell(sorted(ids)) for ids in of.values()}
    return ["devices=" + lists.pop()] if len(lists) == 1 else []


def _plan(run: RunDir) -> tuple[Plan | None, list[str]]:
    try:
        return read_plan(run), []
    except ReadError as error:
        return None, [f"folder, environment and devices: {error}"]


def _typed(spec: RankSpec, flags: int) -> Sequence[str]:
    """Return the words of a command: without the worker file, and the arguments that the job adds itself."""
    words = list(spec.argv[: len(spec.argv) - flags] if flags else spec.argv)
    if WORKER in words:
        place = words.index(WORKER)
        words[place - 1 : place + 1] = []  # -u and the file
    return [str(word) for word in mask(words)]


def _flags(run: RunDir) -> int:
    from launcher.config.job import arguments

    try:
        return len(arguments(load(str(run.job_yaml), (), {})[0].args))
    except ConfigError:
        return 0


def _variables(spec: RankSpec | None) -> dict[str, str]:
    """Return the variables of the shell that change what is computed, as the ranks had them."""
    environ = spec.env if spec else {}
    framework = profile(environ.get("NPU_LAUNCH_FRAMEWORK", ""))
    defaults = {**_DEFAULTS, **framework.defaults}
    names = [name for name in environ if is_telling(name, framework) and name not in _BY_LAUNCHER]
    known = {name: environ[name] for name in names if MASK not in environ[name]}
    return {name: value for name, value in known.items() if defaults.get(name) != value}


def _secrets(text: str, words: Sequence[str]) -> tuple[str, ...]:
    """Name the keys of a job that are masked."""
    found, parent = [], ""
    for line in text.splitlines():
        match = re.match(r"( *)([\w.-]+):", line)
        if match and not match.group(1):
            parent = match.group(2)
        if MASK in line:
            own = match.group(2) if match else ""
            prefix = parent + "." if match and match.group(1) and parent == "env" else ""
            found.append(prefix + own if own else parent)
    if any(MASK in word for word in words):
        found.append("the command")
    return tuple(dict.fromkeys(found))
