"""What was asked of a run of ours, and by which versions it was done: the flags and variables of its plan."""

from __future__ import annotations

import re
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from launcher.masking import mask
from launcher.plan.environment import is_telling
from launcher.profiles.choice import profile
from launcher.run_dir import RunDir
from launcher.runs.registry import known_plan, provenance_of, read_json


class Difference(NamedTuple):
    """A setting or version with its values on both sides; None: that side does not name it."""

    kind: str  # setting, version
    name: str
    a: str | None
    b: str | None


def of_run(run: RunDir) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings and the versions of a run, as far as its files say; secrets are masked."""
    plan = known_plan(run)
    settings: dict[str, str] = {}
    if plan is not None and plan.ranks:
        first = plan.ranks[0]
        settings = {"backend": plan.backend, **flags(first.argv)}
        framework = profile(first.env.get("NPU_LAUNCH_FRAMEWORK", ""))
        settings.update((name, first.env[name]) for name in sorted(first.env) if is_telling(name, framework))
    versions = dict(_flat("", provenance_of(run) or read_json(run.result).get("versions")))
    return masked(settings), masked(versions)


def flags(argv: Sequence[str]) -> dict[str, str]:
    """Return the flags of a command line: --name=value, --name value, --name.

    >>> flags(["python", "x.py", "--a=1", "--b", "2", "--c"])
    {'a': '1', 'b': '2', 'c': 'True'}
    """
    found: dict[str, str] = {}
    for word, after in zip(argv, [*argv[1:], "-"]):
        match = re.match(r"--([A-Za-z][\w.-]*)(=?)", word)
        if match:
            plain = "True" if after.startswith("-") else after
            found[match.group(1)] = word[match.end() :] if match.group(2) else plain
    return found


def masked(values: Mapping[str, str]) -> dict[str, str]:
    """Return settings without secrets."""
    return {str(name): str(value) for name, value in mask(dict(values)).items()}


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Name what lies deeper in a document by its path: cann.version, files.train_file.bytes.

    Of a file neither path, which is a setting, nor time: a copy is the same data.
    """
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for place, item in enumerate(value):
            own = {key: item[key] for key in item if key not in ("option", "path", "changed")}
            yield from _flat(f"{name}.{item.get('option') or place}", own)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), item)
    elif value is not None and name:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def differences(kind: str, a: Mapping[str, str], b: Mapping[str, str]) -> list[Difference]:
    """List what differs, what both name first; nothing where one side names nothing at all."""
    if not a or not b:
        return []
    names = sorted(set(a) | set(b), key=lambda name: (name not in a or name not in b, name))
    return [Difference(kind, name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]
