"""A launcher that is given as the program of ranks: each of them would start all its processes once more."""

from __future__ import annotations

import os
import re
import shlex
from typing import Sequence

from launcher.config.job import JobConfig, Provenance
from launcher.errors import ConfigError
from rank_table.ranges import spell

_COMMANDS = (
    "torchrun", "msrun", "mtrun", "accelerate-launch", "deepspeed", "fleetrun", "horovodrun", "mpirun",
    "mpiexec", "srun", "npu-launch",
)  # fmt: skip
# A program with this first argument; llamafactory-cli starts torchrun where it sees several devices.
_WITH_ARGUMENT = {"accelerate": "launch", "llamafactory-cli": "train", "lmf": "train"}
_PROGRAM = {"llamafactory-cli": "-m llamafactory.launcher ...", "lmf": "-m llamafactory.launcher ..."}
_MODULES = (
    "torch.distributed.run", "torch.distributed.launch", "torch_npu.distributed.run",
    "mindspore.parallel.cluster.run", "mindtorch.distributed.run", "paddle.distributed.launch",
    "paddle.distributed.fleet.launch", "accelerate.commands.launch", "deepspeed.launcher.runner",
    "deepspeed.launcher.launch", "launcher",
)  # fmt: skip
# Programs that start another with their own environment, so that their words stand before it.
_WRAPPERS = ("env", "exec", "ionice", "nice", "nohup", "numactl", "setsid", "stdbuf", "taskset", "time")
_PYTHON = re.compile(r"python[\d.]*\Z")


def refuse(config: JobConfig, command: Sequence[str], provenance: Provenance, devices: Sequence[int]) -> None:
    """Refuse such a program where a host has several ranks; one rank may start a launcher for all devices.

    devices: of the host, one for each rank.

    Raises:
        ConfigError: with the line that is meant.
    """
    given = command or (config.program if isinstance(config.program, list) else ())
    words = [str(word) for word in given]
    place = find(words) if len(devices) > 1 else -1
    if place < 0:
        return
    name = _base(words[place])
    shown = name if name != "-m" else f"-m {words[place + 1]}"
    program = _PROGRAM.get(name) or _program(words[place + (2 if name == "-m" else 1) :])
    problem = f"{shown} starts processes of its own, and each of {len(devices)} ranks would start it"
    better = f"give the program itself: npu-launch --devices {spell(sorted(devices))} -- {program}"
    if not command:
        raise provenance.error("program", f"{problem}; {better}")
    raise ConfigError(f"{problem}; {better}", file="command line")


def find(words: Sequence[str]) -> int:
    """Return the place of a launcher, or of the -m before its module; -1 when there is none."""
    start = 0
    if words and _base(words[0]) in _WRAPPERS:
        places = range(1, len(words))
        start = next((n for n in places if _PYTHON.match(_base(words[n])) or _starts(words[n:])), len(words))
    place = start
    if words[start:] and _PYTHON.match(_base(words[start])):
        place += 1
        while words[place:] and words[place].startswith("-") and words[place] not in ("-m", "-c"):
            place += 2 if words[place] in ("-W", "-X") else 1
    if list(words[place : place + 1]) == ["-m"]:
        return place if words[place + 1 :] and words[place + 1] in _MODULES else -1
    return place if _starts(words[place:]) else -1


def _starts(words: Sequence[str]) -> bool:
    """Tell whether a command line is that of a launcher."""
    name = _base(words[0]) if words else ""
    return name in _COMMANDS or (name in _WITH_ARGUMENT and _WITH_ARGUMENT[name] in words[1:2])


def _base(word: str) -> str:
    return os.path.basename(word)


def _program(words: Sequence[str]) -> str:
    """Return the program in a launcher's words, as npu-launch takes it."""
    for place, word in enumerate(words):
        if word.endswith(".py"):
            return _spelled(words[place:])
        if word in ("-m", "--module") and words[place + 1 :] and not words[place + 1].startswith("-"):
            return _spelled(["-m", *words[place + 1 :]])
    return "PROGRAM"


def _spelled(words: Sequence[str]) -> str:
    """Spell a program, and that its arguments follow: they may be long, or secret."""
    program = 2 if words[0] == "-m" else 1
    return " ".join(map(shlex.quote, words[:program])) + (" ..." if words[program:] else "")
