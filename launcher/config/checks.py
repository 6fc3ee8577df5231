"""The values of a job: what each key takes, and what no process can be given."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Iterator, Mapping

from launcher.masking import MASK, is_secret

if TYPE_CHECKING:
    from launcher.config.job import JobConfig, Provenance

HEARTBEATS = ("torch", "mindspore", "paddle")  # those of launcher.beats
HEARTBEAT_VARIABLE = "NPU_LAUNCH_HEARTBEAT"
_CHOICES = {
    "backend": ("cpu", "npu", "auto"),
    "bind": ("none", "even", "numa"),
    "cwd": ("", "rank", "launch"),
    "heartbeat": ("", *HEARTBEATS),
    "chip": ("", "910A", "A2", "A3", "950"),
    "engine": ("auto", "local", "slurm", "mpi"),
}
_LONGEST = {"job": 100, "run_id": 140}  # letters of a name
_NOT_NEGATIVE = (
    "grace", "hang_timeout", "early_exit_grace", "max_restarts", "max_log_bytes", "alert_loss",
    "alert_throughput",
)  # fmt: skip
_POSITIVE = ("host_timeout", "lease")
# Names of launcher.supervision.events.Event, and the alerts that come while a run may still end well.
EVENTS = (
    "run", "started", "not_started", "ended", "straggler", "alert", "hung", "early", "host_lost", "signal",
    "launcher_was_stopped", "teardown", "swept", "survivors", "unreadable", "restart", "end",
)  # fmt: skip
ALERTS = ("nan", "loss spike", "throughput", "disk")
_OF_LISTS = {"on_event_only": EVENTS, "fail_on_alert": ALERTS}


def check(config: JobConfig, provenance: Provenance) -> None:
    """Refuse a job with a value that its key does not take. ConfigError: with file, line, key."""
    _check_values(config, provenance)
    _check_texts(config, provenance)


def _check_values(config: JobConfig, provenance: Provenance) -> None:
    for key, allowed in _CHOICES.items():
        if getattr(config, key) not in allowed:
            given = getattr(config, key)
            wanted = ", ".join(filter(None, allowed))
            raise provenance.error(key, f"{given!r}: invalid value (expected one of {wanted})")
    for key in _NOT_NEGATIVE:
        if not 0 <= getattr(config, key) < float("inf"):
            raise provenance.error(key, f"{getattr(config, key)}: invalid value (expected 0 or more)")
    for key in _POSITIVE:
        if not 0 < getattr(config, key) < float("inf"):
            raise provenance.error(key, f"{getattr(config, key)}: invalid value (expected more than 0)")
    told = config.env.get(HEARTBEAT_VARIABLE, "")
    if told not in ("", *HEARTBEATS):
        problem = f"{told!r}: invalid value (expected one of {', '.join(HEARTBEATS)})"
        raise provenance.error(f"env.{HEARTBEAT_VARIABLE}", problem)
    if config.stdin_rank < -1:
        raise provenance.error(
            "stdin_rank", f"{config.stdin_rank}: invalid rank (expected a rank, or -1 for none)"
        )
    for word in config.restart_on:
        if not re.fullmatch(r"exit:\d{1,3}|signal:[A-Za-z0-9+]+|hang", word):
            raise provenance.error(
                "restart_on", f"{word!r}: invalid failure (expected exit:CODE, signal:NAME or hang)"
            )
    for key, known in _OF_LISTS.items():
        for word in getattr(config, key):
            if word not in known:
                text = f"{word!r:.60}: invalid value (expected some of {', '.join(known)})"
                raise provenance.error(key, text)
    if isinstance(config.on_event, str):
        try:
            shlex.split(config.on_event)
        except ValueError as error:
            raise provenance.error("on_event", f"{error}; write it as a list, one word each") from None
    for key in ("job", "run_id"):
        _check_name(key, getattr(config, key), provenance)


def _check_name(key: str, name: str, provenance: Provenance) -> None:
    """Refuse what is no name of a folder; HCCL looks for ".json" in the path of its rank table there."""
    if key == "run_id" and not name:
        return
    fits = len(name) <= _LONGEST[key] and ".json" not in name
    if not fits or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise provenance.error(key, f"{name!r}: invalid folder name; use letters, digits, - and _")


def _check_texts(config: JobConfig, provenance: Provenance) -> None:
    """Refuse what no process can be given, before anything is made."""
    for key, text in _texts(config):
        problem = _unusable(text)
        if problem:
            raise provenance.error(key, f"{problem}; correct it")
    for name, value in (*config.env.items(), *config.args.items()):
        if value == MASK and is_secret(name):
            key = ("env." if name in config.env else "args.") + name
            raise provenance.error(key, f"{MASK} stands for a secret that was not written; give its value")
    for name in config.env:
        if not name or "=" in name:
            raise provenance.error("env." + name, f"{name!r}: invalid name of a variable")


def _texts(config: JobConfig) -> Iterator[tuple[str, str]]:
    """Yield every text of a job with its key."""
    for key, value in vars(config).items():
        if isinstance(value, Mapping):
            for name, item in value.items():
                yield f"{key}.{name}", name
                for part in item if isinstance(item, list) else [item]:
                    yield f"{key}.{name}", str(part)
        else:
            for part in value if isinstance(value, list) else [value]:
                yield key, str(part)


def _unusable(text: str) -> str:
    if "\0" in text:
        return "holds a NUL character, which no program can be given"
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return "holds a character that this locale cannot encode"
    return ""
