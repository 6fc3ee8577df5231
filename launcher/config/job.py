"""train.yaml and the overrides on the command line as one typed object, and where its values were written."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Sequence

from launcher.config import checks, yaml_nodes
from launcher.config.yaml_nodes import Argument, WrongType, YamlError
from launcher.errors import ConfigError
from launcher.masking import mask
from launcher.text import did_you_mean
from rank_table import files

LARGEST = 1 << 18  # bytes of a job file


def _key(default: Any, meaning: str) -> Any:
    if callable(default):
        return field(default_factory=default, metadata={"help": meaning})
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class JobConfig:
    """A job. Times are seconds, sizes bytes; relative paths start in the directory of the command."""

    job: str = _key("job", "name of the run folder")
    program: str | list[str] = _key("", "module, script.py, or a command as a list")
    args: dict[str, Argument] = _key(dict, "flags of the program, passed as --key=value")
    check: str = _key("", "module that checks args before the start (squad.check for squad.run_squad)")
    devices: str = _key("0", "physical device ids, such as 0-7 or 0,2,4")
    backend: str = _key("auto", "cpu, npu or auto")
    framework: str = _key(
        "", "tensorflow, torch, mindspore, paddle or none; default: what the program and its files import"
    )
    heartbeat: str = _key(
        "", "torch, mindspore or paddle: tell the steps of a program that does not tell them (frameworks.md)"
    )
    inventory: str = _key("", "YAML file of hosts and devices; default: this host is asked")
    rank_table_file: str = _key("", "an existing rank table; default: one is made")
    chip: str = _key("", "910A, A2, A3 or 950; default: the devices are asked")
    runs_dir: str = _key("runs", "folder in which every run gets a folder of its own")
    run_id: str = _key(
        "", "name of that folder; a run that is there and has ended goes on in it; default: a new name"
    )
    python: str = _key("", "Python interpreter of the ranks; default: the launcher's own")
    env: dict[str, str] = _key(dict, "environment variables added to every rank")
    ascend_env: str = _key("", "path of CANN's set_env.sh, run once; the ranks get what it sets")
    rank_table_free: bool = _key(
        False, "NPU: ranks see no rank table, and find each other as the framework does it (frameworks.md)"
    )
    cwd: str = _key(
        "",
        "working directory: rank or launch; default: rank for Python programs, launch for commands",
    )
    grace: float = _key(30.0, "seconds between SIGTERM and SIGKILL")
    hang_timeout: float = _key(
        0.0,
        "seconds without a heartbeat, or without a sign of life, after which a rank counts as hung; 0: never",
    )
    early_exit_grace: float = _key(60.0, "how long the other ranks may stay idle after one has exited with 0")
    max_restarts: int = _key(0, "how often a failed run is started again")
    restart_on: list[str] = _key(
        list, "failures that trigger a restart: exit:CODE, signal:NAME, hang; default: all"
    )
    on_event: str | list[str] = _key(
        "", "command that gets each event as a line of JSON on its stdin, one process each (no shell)"
    )
    on_event_only: list[str] = _key(list, "names of the events for on_event; default: all")
    alert_loss: float = _key(1.5, "an alert when the loss stays above this many times its mean; 0: never")
    alert_throughput: float = _key(
        0.5, "an alert when the throughput stays below this share of the run's best; 0: never"
    )
    fail_on_alert: list[str] = _key(
        list, "alerts that make a run that ended well exit with 1: nan, loss spike, throughput, disk"
    )
    bind: str = _key("none", "how ranks are bound to cores: none, even or numa")
    max_log_bytes: int = _key(0, "bytes kept of a rank's log: its first and last half; 0: all")
    skip_preflight: list[str] = _key(list, "preflight checks to skip")
    gather: list[str] = _key(list, "patterns of files to collect from the rank folders")
    show_ranks: list[int] = _key(list, "ranks whose output is printed; default: all")
    quiet: bool = _key(False, "do not print the ranks' output")
    stdin_rank: int = _key(-1, "rank that reads the standard input of npu-launch; -1: none")
    engine: str = _key(
        "auto", "what starts the agents of several hosts: slurm, mpi, local (one host) or auto"
    )
    hosts: list[str] = _key(list, "mpi: the hosts, in the order of their ranks")
    hostfile: str = _key("", "mpi: a file of hosts, as Open MPI or DeepSpeed read it")
    host_timeout: float = _key(60.0, "how long every host may take to answer, and to get ready")
    lease: float = _key(10.0, "how long head and agents may hear nothing of each other")
    export: list[str] = _key(
        list,
        "several hosts: variables of this shell that are a host's own (PYTHONPATH), for the ranks of all",
    )
    interfaces: list[str] = _key(list, "several hosts: networks between them, such as 10.0.0.0/24 or eth0")
    run_as_root: bool = _key(False, "mpi: let root run mpirun")


# Old name: today's name. The old names keep working.
RENAMED = {"show": "show_ranks", "log_max": "max_log_bytes"}
RENAMED_OPTIONS = {**RENAMED, "no_preflight": "skip_preflight"}
_RENAMED_TO = "renamed to {}; the old name still works"


@dataclass(frozen=True)
class Provenance:
    """The places where values were written: the line in the YAML file by key ("args.x" inside args)."""

    file: str = ""
    lines: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # for the user, one line each
    written: set[str] = field(default_factory=set)  # the keys of the job that were given anywhere
    flags: list[str] = field(default_factory=list)  # keys of the command line alone, of the program

    def error(self, key: str, message: str) -> ConfigError:
        """Make an error that says where a key was written."""
        for name in (key, "args." + key):
            if name in self.lines:
                return ConfigError(message, file=self.file, line=self.lines[name], key=key)
        if self.file and key in ("", None):
            return ConfigError(message, file=self.file)
        return ConfigError(message, file="command line", key=key)


@dataclass
class _Written:
    """What was written, before its types are looked at: YAML nodes by key, and below `args` and `env`."""

    provenance: Provenance
    keys: dict[str, Any] = field(default_factory=dict)
    below: dict[str, dict[str, Any]] = field(default_factory=lambda: {"args": {}, "env": {}})

    def put(self, key: str, node: Any, file: str | None = None) -> None:
        """Set a key; one of the command line has no line any more."""
        if key not in self.below:
            self.keys[key] = node
            return
        if not yaml_nodes.is_mapping(node):
            advice = "write flags as" if key == "args" else "write variables as"
            raise self.provenance.error(key, f"not a mapping; {advice} `name: value` below it")
        try:
            found = yaml_nodes.entries(node)
        except YamlError as error:
            raise YamlError(str(error), error.line, f"{key}.{error.key}" if error.key else key) from None
        self.below[key] = {name: entry.node for name, entry in found.items()}
        for name in [name for name in self.provenance.lines if name.startswith(key + ".")]:
            del self.provenance.lines[name]
        if file is not None:
            self.provenance.lines.update({f"{key}.{name}": entry.line for name, entry in found.items()})


def load(
    path: str | None, overrides: Sequence[str], options: Mapping[str, Any]
) -> tuple[JobConfig, Provenance]:
    """Read a job: the YAML file, then `key=value` overrides, then options of the command line.

    Raises:
        ConfigError: with file, line, key and what to do.
    """
    provenance = Provenance(path or "")
    written = _Written(provenance)
    if path:
        _read_yaml(path, written)
    for override in overrides:
        _override(written, override)
    values = _typed(written)
    for key, value in options.items():
        if value is not None:
            name = RENAMED_OPTIONS.get(key, key)
            if name != key:
                _note_renamed("--" + key.replace("_", "-"), "--" + name.replace("_", "-"), provenance)
                value = [*(options.get(name) or ()), *value] if isinstance(value, list) else value
            values[name] = value
            provenance.lines.pop(name, None)
    provenance.written.update(values)
    config = JobConfig(**values)
    checks.check(config, provenance)
    return config, provenance


def _read_yaml(path: str, written: _Written) -> None:
    """Read a file, which is small and regular."""
    try:
        found = _mapping(text_of(path))
        for key, entry in found.items():
            name = RENAMED.get(key, key)
            written.provenance.lines[key] = entry.line
            if key != name and name in found:
                problem = f"the old name of {name}, which is set too; keep {name}"
                raise written.provenance.error(key, problem)
            if key != name:
                written.provenance.notes.append(str(written.provenance.error(key, _RENAMED_TO.format(name))))
                written.provenance.lines[name] = written.provenance.lines.pop(key)
            elif key not in _fields():
                raise written.provenance.error(key, f"unknown key; {suggest(key, _fields())}")
            written.put(name, entry.node, path)
    except YamlError as error:
        raise ConfigError(str(error), file=path, line=error.line, key=error.key) from None


def text_of(path: str) -> str:
    """Read the text of a job file, or of a pipe: <(command)."""
    try:
        data = files.read_bytes(path, LARGEST)
    except (OSError, ValueError) as error:
        problem = f"{files.reason(error)}; give a job file such as examples/squad2.yaml"
        raise ConfigError(problem, file=path) from None
    if len(data) > LARGEST:
        raise ConfigError(f"more than {LARGEST >> 10} KiB (expected a job file)", file=path)
    try:
        found = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("invalid encoding (expected UTF-8); save it as UTF-8", file=path) from None
    if "\0" in found:
        raise ConfigError("no text file, as it holds NUL characters (expected YAML)", file=path)
    return found


def _mapping(text: str) -> dict[str, yaml_nodes.Entry]:
    node = yaml_nodes.compose(text)
    if not yaml_nodes.is_mapping(node):
        raise YamlError("no keys (expected a mapping); give a job file such as examples/squad2.yaml")
    return yaml_nodes.entries(node)


def _override(written: _Written, override: str) -> None:
    """Take one `key=value` of the command line; what a program gets is the text as it was typed."""
    key, equals, text = override.partition("=")
    if not equals or not key or key == "env.":
        raise ConfigError(f"{override!r}: invalid override; write key=value", file="command line")
    if key in RENAMED:
        _note_renamed(key, RENAMED[key], written.provenance)
        key = RENAMED[key]
    written.provenance.lines.pop(key if key in _fields() or key.startswith("env.") else "args." + key, None)
    try:
        if key in _fields():
            written.put(key, _own_node(key, text))
        elif key.startswith("env."):
            written.below["env"][key[len("env.") :]] = yaml_nodes.scalar(text)
        else:
            written.provenance.flags.extend([key] if key not in written.below["args"] else [])
            written.below["args"][key] = _argument_node(text)
    except YamlError as error:
        raise ConfigError(f"{text[:60]!r}: {error}", file="command line", key=key) from None


def _own_node(key: str, text: str) -> Any:
    """Make the node of a key of the launcher: text as typed where text is expected, else YAML."""
    kind = str(_fields()[key].type)
    if (kind == "str" and key != "devices") or ("|" in kind and not text.startswith("[")):
        return yaml_nodes.scalar(text)
    return yaml_nodes.compose(text) or yaml_nodes.scalar(text)


def _argument_node(text: str) -> Any:
    """Make the node of an argument of the program: a list in brackets, true or false, else text as typed."""
    if text.lower() in ("true", "false"):
        return yaml_nodes.compose(text)
    if text.startswith("[") and text.endswith("]"):
        try:
            return yaml_nodes.compose(text)
        except YamlError as error:
            if error.line is None:  # nested too deeply: it is YAML, but nothing that can be passed on
                raise
    return yaml_nodes.scalar(text)


def _note_renamed(old: str, new: str, provenance: Provenance) -> None:
    provenance.notes.append(str(ConfigError(_RENAMED_TO.format(new), file="command line", key=old)))


def _fields() -> dict[str, Any]:
    return {item.name: item for item in dataclasses.fields(JobConfig)}


_READERS = {
    "str": yaml_nodes.text,
    "bool": yaml_nodes.flag,
    "int": yaml_nodes.whole,
    "float": yaml_nodes.number,
    "list[str]": yaml_nodes.texts,
    "list[int]": yaml_nodes.wholes,
    "str | list[str]": yaml_nodes.text_or_texts,
}


def _typed(written: _Written) -> dict[str, Any]:
    """Read each node as what its key expects."""
    fields = _fields()
    values: dict[str, Any] = {}
    for key, node in written.keys.items():
        reader = yaml_nodes.text_or_texts if key == "devices" else _READERS[str(fields[key].type)]
        values[key] = _read(key, node, reader, written.provenance)
    if isinstance(values.get("devices"), list):
        values["devices"] = ",".join(values["devices"])
    for key, reader in (("args", yaml_nodes.argument), ("env", yaml_nodes.text)):
        below = written.below[key].items()
        values[key] = {n: _read(f"{key}.{n}", node, reader, written.provenance) for n, node in below}
    return values


def _read(key: str, node: Any, reader: Callable[[Any], Any], provenance: Provenance) -> Any:
    try:
        return reader(node)
    except (WrongType, YamlError) as error:
        raise provenance.error(key, str(error)) from None


def suggest(key: str, known: Any) -> str:
    """Suggest the nearest known key."""
    return did_you_mean(key, known, "flags of the program go below `args:`")


def arguments(args: Mapping[str, Argument]) -> list[str]:
    """Write args as flags; a list is joined by commas, a null is left out."""
    words = []
    for key, value in args.items():
        if value is None:
            continue
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"--{key}={text}")
    return words


def as_typed(config: JobConfig, command: Sequence[str]) -> JobConfig:
    """Return a job in which a command that was given after `--` is the program; such a one has no check."""
    return dataclasses.replace(config, program=list(command), check="") if command else config


def to_yaml(config: JobConfig) -> str:
    """Write a job as YAML that reads back as the same job, but for its secrets (masked) and its run_id."""
    import yaml

    document = {name: mask(value) for name, value in dataclasses.asdict(config).items()}
    del document["run_id"]  # another start of this file is another run
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text
