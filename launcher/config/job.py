"""train.yaml and the overrides on the command line as one typed object, and where its values were written."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from launcher.errors import ConfigError
from launcher.text import did_you_mean


def _key(default: Any, meaning: str) -> Any:
    if callable(default):
        return field(default_factory=default, metadata={"help": meaning})
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class JobConfig:
    """A job. Times are seconds, sizes bytes; relative paths start in the directory of the command."""

    job: str = _key("job", "name of the run folder")
    program: Union[str, List[str]] = _key("", "module, script.py, or a command as a list")
    args: Dict[str, Any] = _key(dict, "flags of the program, passed as --key=value")
    check: str = _key("", "module that checks args before the start (squad.check for squad.run_squad)")
    devices: str = _key("0", "physical device ids, such as 0-7 or 0,2,4")
    backend: str = _key("auto", "cpu, npu or auto")
    inventory: str = _key("", "YAML file of hosts and devices; default: this host is asked")
    rank_table_file: str = _key("", "an existing rank table; default: one is made")
    chip: str = _key("", "910A, A2, A3 or 950; default: the devices are asked")
    runs_dir: str = _key("runs", "folder in which every run gets a folder of its own")
    python: str = _key("", "Python interpreter of the ranks; default: the launcher's own")
    env: Dict[str, str] = _key(dict, "environment variables added to every rank")
    ascend_env: str = _key("", "path of CANN's set_env.sh, run once; the ranks get what it sets")
    rank_table_free: bool = _key(False, "NPU: no rank table; HCCL finds the ranks itself (CM_CHIEF_IP ...)")
    cwd: str = _key(
        "",
        "working directory: rank or launch; default: rank for Python programs, launch for commands",
    )
    grace: float = _key(30.0, "seconds between SIGTERM and SIGKILL")
    hang_timeout: float = _key(0.0, "seconds without a heartbeat after which a rank counts as hung; 0: never")
    early_exit_grace: float = _key(60.0, "how long the other ranks may stay idle after one has exited with 0")
    max_restarts: int = _key(0, "how often a failed run is started again")
    restart_on: List[str] = _key(
        list, "failures that trigger a restart: exit:CODE, signal:NAME, hang; default: all"
    )
    bind: str = _key("none", "how ranks are bound to cores: none, even or numa")
    max_log_bytes: int = _key(0, "bytes kept of a rank's log: its first and last half; 0: all")
    skip_preflight: List[str] = _key(list, "preflight checks to skip")
    gather: List[str] = _key(list, "patterns of files to collect from the rank folders")
    show_ranks: List[int] = _key(list, "ranks whose output is printed; default: all")
    quiet: bool = _key(False, "do not print the ranks' output")
    stdin_rank: int = _key(-1, "rank that reads the standard input of npu-launch; -1: none")


# Old name: today's name. The old names keep working.
RENAMED = {"show": "show_ranks", "log_max": "max_log_bytes"}
RENAMED_OPTIONS = {**RENAMED, "no_preflight": "skip_preflight"}
_RENAMED_TO = "renamed to {}; the old name still works"


@dataclass(frozen=True)
class Provenance:
    """The places where values were written: the line in the YAML file by key ("args.x" inside args)."""

    file: str = ""
    lines: Dict[str, int] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)  # for the user, one line each

    def error(self, key: str, message: str) -> ConfigError:
        """Make an error that says where a key was written."""
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
    provenance = Provenance(path or "", lines)
    for key in [key for key in values if key in RENAMED]:
        _rename(values, key, provenance)
    values.setdefault("args", {})
    if not isinstance(values["args"], dict):
        raise provenance.error("args", "not a mapping; write flags as `name: value` below it")
    for override in overrides:
        _override(values, override, provenance)
    for key, value in options.items():
        if value is not None:
            name = RENAMED_OPTIONS.get(key, key)
            if name != key:
                _note_renamed("--" + key.replace("_", "-"), "--" + name.replace("_", "-"), provenance)
                value = [*(options.get(name) or ()), *value] if isinstance(value, list) else value
            values[name] = value
            lines.pop(name, None)
    return _build(values, provenance), provenance


def _rename(values: Dict[str, Any], old: str, provenance: Provenance) -> None:
    """Rename an old key of the YAML file, and note it."""
    new = RENAMED[old]
    if new in values:
        raise provenance.error(old, f"the old name of {new}, which is set too; keep {new}")
    provenance.notes.append(str(provenance.error(old, _RENAMED_TO.format(new))))
    values[new] = values.pop(old)
    if old in provenance.lines:
        provenance.lines[new] = provenance.lines.pop(old)


def _override(values: Dict[str, Any], override: str, provenance: Provenance) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r}: invalid override; write key=value", file="command line")
    if key in RENAMED:
        _note_renamed(key, RENAMED[key], provenance)
        key = RENAMED[key]
    place = values if key in _fields() else values["args"]
    place[key] = _yaml_value(text, key)
    provenance.lines.pop(key if place is values else "args." + key, None)


def _note_renamed(old: str, new: str, provenance: Provenance) -> None:
    provenance.notes.append(str(ConfigError(_RENAMED_TO.format(new), file="command line", key=old)))


def _fields() -> Dict[str, Any]:
    return {item.name: item for item in dataclasses.fields(JobConfig)}


def _read_yaml(path: str) -> Tuple[Dict[str, Any], Dict[str, int]]:
    """Parse a file: (values, line of each key). A duplicate key is an error."""
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
        raise ConfigError("invalid encoding (expected UTF-8); save it as UTF-8", file=path) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"invalid YAML: {getattr(error, 'problem', None) or 'cannot be read'}"
        raise ConfigError(message, file=path, line=mark.line + 1 if mark else None) from None
    if not isinstance(values, dict):
        raise ConfigError(
            "no keys (expected a mapping); give a job file such as examples/squad2.yaml", file=path
        )
    return values, lines


def _lines(node: Any, path: str, prefix: str = "") -> Dict[str, int]:
    lines: Dict[str, int] = {}
    for key, value in getattr(node, "value", ()) if getattr(node, "id", "") == "mapping" else ():
        name = prefix + str(key.value)
        line = key.start_mark.line + 1
        if name in lines:
            message = f"duplicate key, first defined on line {lines[name]}; keep one"
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
        raise ConfigError(f"{text!r}: invalid YAML; quote it", file="command line", key=key) from None


def _build(values: Dict[str, Any], provenance: Provenance) -> JobConfig:
    import dacite

    for key in values:
        if key not in _fields():
            raise provenance.error(str(key), f"unknown key; {suggest(str(key), _fields())}")
    devices = values.get("devices", "0")
    values = dict(values, devices=",".join(map(str, devices)) if isinstance(devices, list) else str(devices))
    floats = {name for name, item in _fields().items() if item.type == "float"}
    values.update({k: float(v) for k, v in values.items() if k in floats and type(v) is int})
    try:
        config = dacite.from_dict(JobConfig, values, dacite.Config(strict=True))
    except dacite.DaciteError as error:
        key = getattr(error, "field_path", None) or ""
        raise _wrong_type(values, provenance, key.partition(".")[0]) from None
    _check_values(config, provenance)
    return config


_NOUNS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


def _wrong_type(values: Mapping[str, Any], provenance: Provenance, key: str) -> ConfigError:
    kind = str(_fields()[key].type) if key in _fields() else ""
    wanted = _NOUNS.get(kind, "a list" if kind.startswith("List") else kind or "another type")
    return provenance.error(key, f"{values.get(key)!r}: wrong type (expected {wanted})")


_CHOICES = {
    "backend": ("cpu", "npu", "auto"),
    "bind": ("none", "even", "numa"),
    "cwd": ("", "rank", "launch"),
    "chip": ("", "910A", "A2", "A3", "950"),
}
_NOT_NEGATIVE = ("grace", "hang_timeout", "early_exit_grace", "max_restarts", "max_log_bytes")


def _check_values(config: JobConfig, provenance: Provenance) -> None:
    for key, allowed in _CHOICES.items():
        if getattr(config, key) not in allowed:
            given = getattr(config, key)
            wanted = ", ".join(filter(None, allowed))
            raise provenance.error(key, f"{given!r}: invalid value (expected one of {wanted})")
    for key in _NOT_NEGATIVE:
        if not 0 <= getattr(config, key) < float("inf"):
            raise provenance.error(key, f"{getattr(config, key)}: invalid value (expected 0 or more)")
    if config.stdin_rank < -1:
        raise provenance.error(
            "stdin_rank", f"{config.stdin_rank}: invalid rank (expected a rank, or -1 for none)"
        )
    for word in config.restart_on:
        if not re.match(r"(exit:\d{1,3}|signal:[A-Za-z0-9+]+|hang)$", word):
            raise provenance.error(
                "restart_on", f"{word!r}: invalid failure (expected exit:CODE, signal:NAME or hang)"
            )
    # HCCL looks for ".json" in the path of its rank table, which is in the folder of this name.
    if not re.match(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$", config.job) or ".json" in config.job:
        raise provenance.error("job", f"{config.job!r}: invalid folder name; use letters, digits, - and _")


def suggest(key: str, known: Any) -> str:
    """Suggest the nearest known key."""
    return did_you_mean(key, known, "flags of the program go below `args:`")


def arguments(args: Mapping[str, Any]) -> List[str]:
    """Write args as flags; a list is joined by commas, a null is left out."""
    words = []
    for key, value in args.items():
        if value is None:
            continue
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"--{key}={text}")
    return words


def to_yaml(config: JobConfig) -> str:
    """Write a job as the YAML that reads back as the same job."""
    import yaml

    text: str = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    return text
