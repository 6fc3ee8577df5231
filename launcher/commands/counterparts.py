"""Options of other launchers, typed out of habit: what npu-launch has instead (docs/coming-from.md)."""

from __future__ import annotations

import shlex
from typing import Sequence

import click

from launcher.errors import UsageError

_DEVICES = "npu-launch takes a list of devices"
_HOSTS = "give --hosts, or take a node more in the queue"
_NUMBERED = "leave it out: one command starts all hosts, in the engine's order"
_MEETING = "leave it out: ranks meet on rank 0's host, at a free port, unless env.MASTER_PORT=29500 sets one"
_LOGS = "give runs_dir=FOLDER: each run has logs/rank_N.log in a folder of its own"
_ALWAYS = "leave it out: npu-launch always does so"
_PROGRAM = "a program stands behind `--`"
# How an option reads once `_` is `-`: what to do. One that begins so has the same.
_NUMBERS = (
    "--nproc-per-node", "--worker-num", "--local-worker-num", "--num-processes", "--num-gpus",
    "--num-accelerators", "--np", "-n",
)  # fmt: skip
_LISTS = ("--gpus", "--npus", "--xpus", "--gpu-ids", "--include")
_OTHERS = {
    "--nnodes": _HOSTS, "--num-nodes": _HOSTS, "--num-machines": _HOSTS,
    "--node-rank": _NUMBERED, "--machine-rank": _NUMBERED,
    "--master-addr": _MEETING, "--master-port": _MEETING, "--main-process-": _MEETING, "--master": _MEETING,
    "--rdzv-": _MEETING, "--standalone": _ALWAYS, "--tee": _ALWAYS, "--redirects": _ALWAYS, "--join": _ALWAYS,
    "--log-dir": _LOGS, "-m": _PROGRAM, "--module": _PROGRAM, "--no-python": _PROGRAM,
}  # fmt: skip


def refusal(error: click.NoSuchOption, words: Sequence[str]) -> UsageError | None:
    """Say what is meant by an option that npu-launch does not have; None where nothing is known of it."""
    name = error.option_name.replace("_", "-")
    command = f"npu-launch --devices {_devices(words)} -- {_program(words)}"
    if name in (*_NUMBERS, *_LISTS):
        return UsageError(f"{error.option_name}: no such option: {_DEVICES}, as in {command}")
    advice = next((text for option, text in _OTHERS.items() if name == option or _begins(name, option)), "")
    if advice:
        return UsageError(f"{error.option_name}: no such option; {advice}, as in {command}")
    if any(word.endswith(".py") for word in words):
        return UsageError(
            f"{error.option_name}: no such option; {_PROGRAM}, with its own options, as in {command}"
        )
    return None


def _begins(name: str, option: str) -> bool:
    return option.endswith("-") and name.startswith(option)


def _devices(words: Sequence[str]) -> str:
    """Return the list that is meant by a number of processes, or the list that is given; else an example."""
    for place, word in enumerate(words):
        name, equals, value = word.replace("_", "-").partition("=")
        value = value if equals else "".join(words[place + 1 : place + 2])
        if word.startswith("-n") and word[2:].isdigit():
            name, value = "-n", word[2:]
        if name in (*_NUMBERS, "-np") and value.isdigit() and int(value) > 0:
            return f"0-{int(value) - 1}" if int(value) > 1 else "0"
        if name == "--devices" or (name in _LISTS and value.replace(",", "").isdigit()):
            return value
    return "0-7"


def _program(words: Sequence[str]) -> str:
    for place, word in enumerate(words):
        if word.endswith(".py"):
            return shlex.quote(word) + (" ..." if words[place + 1 :] else "")
        if word in ("-m", "--module") and words[place + 1 :]:
            return f"-m {shlex.quote(words[place + 1])}"
    return "train.py"
