"""train.yaml and the overrides on the command line, as one typed object that knows where values came from."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from launcher.errors import ConfigError


def _key(default: Any, meaning: str) -> Any:
    if callable(default):
        return field(default_factory=default, metadata={"help": meaning})
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class JobConfig:
    """Hold a job. Times are seconds, sizes bytes; relative paths are taken from the launch directory."""

    job: str = _key("job", "name of the run folder")
    program: Union[str, List[str]] = _key("", "module, script.py, or a command as a list")
    args: Dict[str, Any] = _key(dict, "flags of the program: passed as --key=value")
    check: str = _key("", "module that checks args before the start (squad.check for squad.run_squad)")
    devices: str = _key("0", "physical devices, such as 0-7 or 0,2,4")
    backend: str = _key("auto", "cpu, npu or auto")
    inventory: str = _key("", "YAML file of hosts and devices, instead of asking this host")
    rank_table_file: str = _key("", "a finished rank table, instead of making one")
    chip: str = _key("", "910A, A2, A3 or 950, instead of asking the devices")
    runs_dir: str = _key("runs", "folder of the run folders")
    python: str = _key("", "interpreter of the ranks; default: the launcher's own")
    env: Dict[str, str] = _key(dict, "further environment of every rank")
    ascend_env: str = _key("", "CANN's set_env.sh, run once; the ranks get what it sets")
    rank_table_free: bool = _key(False, "NPU: HCCL finds its ranks itself (CM_CHIEF_IP ...), no rank table")
    cwd: str = _key("", "rank or launch: default rank for Python programs, launch for commands")
    grace: float = _key(30.0, "seconds between SIGTERM and SIGKILL")
    hang_timeout: float = _key(0.0, "seconds without a heartbeat that mean a hang; 0: never")
    early_exit_grace: float = _key(60.0, "seconds that a rank may wait for others after one has finished")
    max_restarts: int = _key(0, "times that a failed run is started again")
    restart_on: List[str] = _key(list, "what is worth a restart: exit:CODE, signal:NAME, hang; default: all")
    bind: str = _key("none", "cores of the ranks: none, even or numa")
    log_max: int = _key(0, "bytes kept of a rank's log, half of them its end; 0: all")
    skip_preflight: List[str] = _key(list, "checks of the preflight to leave out")
    gather: List[str] = _key(list, "patterns of files in the rank folders to collect")
    show: List[int] = _key(list, "ranks whose lines reach the console; default: all")
    quiet: bool = _key(False, "nothing of the ranks reaches the console")
    stdin_rank: int = _key(-1, "the rank that reads npu-launch's standard input; -1: none")


@dataclass(frozen=True)
class Provenance:
    """Say where values were written: line of the YAML file by key ("args.x" inside args)."""

    file: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)

    def error(self, key: str, message: str) -> ConfigError:
        """Make the error of a key."""
        for name in (key, "args." + key):
            if name in self.lines:
                return ConfigError(message, file=self.file, line=self.lines[name], key=key)
        if self.file and key in ("", None):
            return ConfigError(message, file=self.file)
        return ConfigError(message, file="command line", key=key)


def load(
    path: Optional[str], overrides: Sequence[str], options: Mapping[str, Any]
) -> Tuple[JobConfig, Provenance]:
    """Read a job: the YAML file, then `key=value` overrides, then options of the command line.

    Raises:
        ConfigError: with file, line, key and what to do.
    """
    values, lines = _read_yaml(path) if path else ({}, {})
    source = Provenance(path or "", lines)
    values.setdefault("args", {})
    if not isinstance(values["args"], dict):
        raise source.error("args", "not a mapping; write flags as `name: value` below it")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"{override!r} is no override; write key=value", file="command line")
        place = values if key in _fields() else values["args"]
        place[key] = _yaml_value(text, key)
        lines.pop(key if place is values else "args." + key, None)
    for key, value in options.items():
        if value is not None:
            values[key] = value
            lines.pop(key, None)
    return _build(values, source), source


def _fields() -> Dict[str, Any]:
    return {item.name: item for item in dataclasses.fields(JobConfig)}


def _read_yaml(path: str) -> Tuple[Dict[str, Any], Dict[str, int]]:
    """Parse a file: (values, line of each key). Keys that stand twice are an error."""
    import yaml

    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = _lines(node, path)
        values = yaml.safe_load(text)
    except OSError as error:
        advice = "give a job file such as examples/squad2.yaml"
        raise ConfigError(f"{error.strerror}; {advice}", file=path) from None
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8; save it as UTF-8", file=path) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"broken YAML: {getattr(error, 'problem', None) or 'cannot be read'}"
        raise ConfigError(message, file=path, line=mark.line + 1 if mark else None) from None
    if not isinstance(values, dict):
        raise ConfigError("no keys in it; give a job file such as examples/squad2.yaml", file=path)
    return values, lines


def _lines(node: Any, path: str, prefix: str = "") -> Dict[str, int]:
    lines: Dict[str, int] = {}
    for key, value in getattr(node, "value", ()) if getattr(node, "id", "") == "mapping" else ():
        name = prefix + str(key.value)
        line = key.start_mark.line + 1
        if name in lines:
            message = f"stands twice, first in line {lines[name]}; keep one"
            raise ConfigError(message, file=path, line=line, key=name)
        lines[name] = line
        if name in ("args", "env"):
            lines.update(_lines(value, path, name + "."))
    return lines


def _yaml_value(text: str, key: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{text!r} cannot be read; quote it", file="command line", key=key) from None


def _build(values: Dict[str, Any], source: Provenance) -> JobConfig:
    import dacite

    for key in values:
        if key not in _fields():
            raise source.error(str(key), f"unknown key; {suggest(str(key), _fields())}")
    devices = values.get("devices", "0")
    values = dict(values, devices=",".join(map(str, devices)) if isinstance(devices, list) else str(devices))
    floats = {name for name, item in _fields().items() if item.type == "float"}
    values.update({k: float(v) for k, v in values.items() if k in floats and type(v) is int})
    try:
        config = dacite.from_dict(JobConfig, values, dacite.Config(strict=True))
    except dacite.DaciteError as error:
        key = getattr(error, "field_path", None) or ""
        raise _wrong_type(values, source, key.partition(".")[0]) from None
    _check_values(config, source)
    return config


_NOUNS = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}


def _wrong_type(values: Mapping[str, Any], source: Provenance, key: str) -> ConfigError:
    kind = str(_fields()[key].type) if key in _fields() else ""
    wanted = _NOUNS.get(kind, "a list" if kind.startswith("List") else kind or "another type")
    return source.error(key, f"{values.get(key)!r} is of a wrong type; give {wanted}")


_CHOICES = {
    "backend": ("cpu", "npu", "auto"),
    "bind": ("none", "even", "numa"),
    "cwd": ("", "rank", "launch"),
    "chip": ("", "910A", "A2", "A3", "950"),
}
_NOT_NEGATIVE = ("grace", "hang_timeout", "early_exit_grace", "max_restarts", "log_max")


def _check_values(config: JobConfig, source: Provenance) -> None:
    for key, allowed in _CHOICES.items():
        if getattr(config, key) not in allowed:
            given = getattr(config, key)
            raise source.error(key, "{!r}; give {}".format(given, ", ".join(filter(None, allowed))))
    for key in _NOT_NEGATIVE:
        if not 0 <= getattr(config, key) < float("inf"):
            raise source.error(key, f"{getattr(config, key)}; give 0 or more")
    if config.stdin_rank < -1:
        raise source.error("stdin_rank", f"{config.stdin_rank}; give a rank, or -1 for none")
    for word in config.restart_on:
        if not re.match(r"(exit:\d{1,3}|signal:[A-Za-z0-9+]+|hang)$", word):
            raise source.error("restart_on", f"{word!r}; give exit:CODE, signal:NAME or hang")
    # HCCL looks for ".json" in the path of its rank table, which lies in the folder of this name.
    if not re.match(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$", config.job) or ".json" in config.job:
        raise source.error("job", f"{config.job!r} names no folder; use letters, digits, - and _")


def suggest(key: str, known: Any) -> str:
    """Name the nearest known key."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else "flags of the program stand below `args:`"


def arguments(args: Mapping[str, Any]) -> List[str]:
    """Write args as flags: lists joined by commas, nothing for an empty value."""
    words = []
    for key, value in args.items():
        if value is None:
            continue
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"--{key}={text}")
    return words


def to_yaml(config: JobConfig) -> str:
    """Render a job as the YAML that would give it."""
    import yaml

    text: str = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    return text


def launch_dir() -> str:
    """Give the directory where the user typed the command."""
    return os.getcwd()
