"""Manifests of Kubernetes: values in YAML, names, and the small languages of options."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from launcher.errors import UsageError
from launcher.submit import templating

QUANTITY = re.compile(r"\d{1,15}(\.\d{1,9})?([EPTGMK]i|[EPTGMkm])?")
LONGEST_NAME = 63  # of a DNS label
_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")  # of a service: no digit at its beginning
_BEYOND_ASCII = re.compile(r"[^\x20-\x7e]")
_PLAIN_LINE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True)
class Volume:
    """A volume of a pod and where it is mounted."""

    name: str
    path: str
    kind: str  # persistentVolumeClaim, hostPath, emptyDir, configMap
    source: Mapping[str, Any]
    read_only: bool = False


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fill in a template, in which `yaml` quotes a value and `block` a text of several lines."""
    return templating.render(template, context, yaml=quoted, block=block).rstrip("\n") + "\n"


def quoted(value: Any) -> str:
    """Write a value as JSON that is YAML too. UsageError: bytes that are no text."""
    return _BEYOND_ASCII.sub(_escape, json.dumps(value, ensure_ascii=False))


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    if 0xD800 <= code <= 0xDFFF:
        raise UsageError(f"{found.string[:60]!r}: bytes that are no UTF-8, which a manifest cannot hold")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def block(text: str, indent: int) -> str:
    """Write a text so that it reads as it was written where YAML can do that, else quoted."""
    lines = text.split("\n")
    if not text or lines[-1] or not all(_PLAIN_LINE.fullmatch(line) for line in lines):
        return quoted(text)
    return f"|{2}+\n" + "\n".join(" " * indent + line if line else "" for line in lines[:-1])


def _room(hosts: int) -> int:
    """Count the characters of a job's name to which `-worker-N`, `-host-N` or `-scheduler-0` can be added."""
    return LONGEST_NAME - max(len(f"-worker-{hosts}"), len("-scheduler-0"))


def new_name(job: str, hosts: int) -> str:
    """Make a name of a job in the cluster, a DNS label, that no other has."""
    name = re.sub(r"[^a-z0-9]+", "-", job.lower()).strip("-")[: _room(hosts) - 8].rstrip("-")
    return f"{name if name[:1].isalpha() else 'job' + name}-{os.urandom(2).hex()}"


def checked_name(name: str, hosts: int) -> str:
    """Return a name that can be one in the cluster. UsageError: it cannot."""
    room = _room(hosts)
    if not _LABEL.fullmatch(name) or len(name) > room:
        raise UsageError(f"--name: {name!r} (expected at most {room} of a-z, 0-9 and -, a letter first)")
    return name


def volume(name: str, text: str) -> Volume:
    """Read SOURCE:PATH[:ro]; a source that begins with / is a folder of the hosts, else a claim."""
    source, _, rest = text.partition(":")
    path, _, mode = rest.partition(":")
    if not source or not path.startswith("/") or mode not in ("", "ro"):
        raise UsageError(f"--volume: {text!r} (expected CLAIM:/PATH, /FOLDER:/PATH, and :ro after it)")
    if source.startswith("/"):
        return Volume(name, path, "hostPath", {"path": source, "type": "Directory"}, mode == "ro")
    return Volume(name, path, "persistentVolumeClaim", {"claimName": source}, mode == "ro")


def refuse_twice(volumes: Sequence[Volume]) -> None:
    """Refuse volumes of which two are mounted at one place. UsageError: which."""
    seen: set[str] = set()
    for item in volumes:
        place = item.path.rstrip("/")
        if place in seen:
            raise UsageError(f"--volume: {item.path} is taken by another volume; choose another path")
        seen.add(place)


def pairs(option: str, words: Sequence[str]) -> dict[str, str]:
    """Read KEY=VALUE words."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise UsageError(f"{option}: {word!r} (expected KEY=VALUE)")
        found[key] = value
    return found


def user(text: str) -> tuple[int | None, int]:
    """Read UID or UID:GID; (None, 0) for the image's own user."""
    if not text:
        return None, 0
    if not re.fullmatch(r"\d{1,9}(:\d{1,9})?", text):
        raise UsageError(f"--run-as: {text!r} (expected UID:GID, such as 1000:1000)")
    first, _, second = text.partition(":")
    return int(first), int(second or first)
