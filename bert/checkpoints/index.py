"""Find the files of a checkpoint, and read what is in it, without TensorFlow. Stdlib only."""

from __future__ import annotations

import glob
import os
import re

from bert import files as small
from bert.checkpoints import absent, headers
from bert.checkpoints.headers import OF_PREFIX, PARTS, Entry, Shape

_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_POINTED = re.compile(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_OWN = re.compile(r"model\.ckpt-(\d+)$")


def resolve(path: str) -> str:
    """Return the checkpoint that a path means: a prefix, or a folder or file of safetensors.

    A folder of TensorFlow checkpoints means its newest complete one; PREFIX.meta and the like mean PREFIX.
    A path that means none stays as it is.
    """
    found = find(path)
    if found is None or found.endswith(".safetensors"):
        return path
    return found[: -len(".index")]


def within(path: str) -> str:
    """Return where a run has its checkpoints: in its folder, gathered there, or in rank 0's folder.

    A path that is no such folder stays as it is.
    """
    places = (os.path.join(path, *inner) for inner in ((), ("checkpoints",), ("ranks", "0")))
    return next((place for place in places if find(place)), path)


def folder_of(path: str) -> str:
    """Return the folder in which a checkpoint's other files are; "" without a checkpoint."""
    return path if os.path.isdir(path) else os.path.dirname(path)


def find(path: str) -> str | None:
    """Find the file that describes the checkpoint at `path`; None if there is none."""
    found = files(path)
    return found[0] if found else None


def files(path: str) -> list[str]:
    """List the files that describe a checkpoint: one .index, or one or more of safetensors."""
    if os.path.isdir(path):
        return _in_folder(path)
    folder, name = os.path.split(path)
    if os.path.isfile(path):
        if name == "checkpoint":
            return _in_folder(folder)
        if name == PARTS or (_SHARD.search(name) and os.path.isfile(os.path.join(folder, PARTS))):
            return _listed(folder)
        if name.endswith(".safetensors"):
            return [path]
    spelled = OF_PREFIX.match(path)
    candidates = [path + ".index", *([spelled.group(1) + ".index"] if spelled else [])]
    return [name for name in candidates if os.path.isfile(name)][:1]


def _in_folder(folder: str) -> list[str]:
    """Prefer model.safetensors, then the files named by an index, then the newest or only checkpoint."""
    whole = os.path.join(folder, "model.safetensors")
    if os.path.isfile(whole):
        return [whole]
    if os.path.isfile(os.path.join(folder, PARTS)):
        return _listed(folder)
    prefixes = prefixes_in(folder)
    newest = _newest(prefixes) or _pointed(folder, prefixes)
    if newest:
        return [newest + ".index"]
    tensors = [name for name in _glob(folder, "*.safetensors") if "adapter" not in os.path.basename(name)]
    found = [*(prefix + ".index" for prefix in prefixes), *tensors]
    return found if len(found) == 1 else []


def _glob(folder: str, pattern: str) -> list[str]:
    return sorted(filter(os.path.isfile, glob.glob(os.path.join(glob.escape(folder), pattern))))


def prefixes_in(folder: str) -> list[str]:
    """List the prefixes of the TensorFlow checkpoints in a folder."""
    return [path[: -len(".index")] for path in _glob(folder, "*.index")]


def _newest(prefixes: list[str]) -> str:
    """Find the checkpoint of the most steps that a run of this program wrote completely; "" if none."""
    own = _steps([prefix for prefix in prefixes if os.path.isfile(prefix + ".json")])
    return next(filter(_is_complete, sorted(own, key=own.__getitem__, reverse=True)), "")


def newer(prefixes: list[str], taken: str) -> list[str]:
    """List the checkpoints of a run of this program that `_newest` passed over for an older one."""
    own = _steps(prefixes)
    if taken not in own or not os.path.isfile(taken + ".json"):
        return []
    return [prefix for prefix, step in own.items() if step > own[taken]]


def _steps(prefixes: list[str]) -> dict[str, int]:
    """Read the steps of the prefixes that are named as this program names them."""
    found = {prefix: _OWN.search(prefix) for prefix in prefixes}
    return {prefix: int(match.group(1)) for prefix, match in found.items() if match}


def _is_complete(prefix: str) -> bool:
    """Tell whether all files that PREFIX.json lists are there; their content is compared when read."""
    held = record(prefix).get("files")
    if not isinstance(held, dict):
        return False
    folder = os.path.dirname(prefix)
    for name, entry in held.items():
        path = os.path.join(folder, os.path.basename(name))
        wanted = entry.get("bytes") if isinstance(entry, dict) else None
        if not os.path.isfile(path) or wanted not in (None, os.path.getsize(path)):
            return False
    return True


def record(path: str) -> dict[str, object]:
    """Read the JSON that this program writes beside its checkpoints; {} if there is none to read."""
    try:
        return small.read_object(path + ".json", 16 << 20)
    except ValueError:
        return {}


def _pointed(folder: str, prefixes: list[str]) -> str:
    """Follow TensorFlow's file `checkpoint`, which names the newest one; "" if that is not in this folder.

    Only the base name counts: the path is where the folder was when it was written, or leads elsewhere.
    """
    try:
        match = _POINTED.search(small.read_text(os.path.join(folder, "checkpoint"), 1 << 20))
    except ValueError:
        return ""
    prefix = os.path.join(folder, os.path.basename(match.group(1))) if match else ""
    return prefix if prefix in prefixes else ""


def _listed(folder: str) -> list[str]:
    """List the files of a checkpoint in several parts; [] if one is missing."""
    try:
        paths = headers.parts(folder)
    except ValueError:
        return []
    return paths if all(map(os.path.isfile, paths)) else []


def entries(path: str) -> dict[str, Entry]:
    """Read names, types and shapes. ValueError: there is no checkpoint, or it is damaged."""
    found = files(path)
    if not found:
        raise ValueError(absent.explain(path))
    if not found[0].endswith(".safetensors"):
        return headers.tensor_bundle(found[0])
    result: dict[str, Entry] = {}
    for name in found:
        try:
            result.update(headers.safetensors(name))
        except ValueError as error:
            part = f"{os.path.basename(name)}: " if len(found) > 1 else ""
            raise ValueError(f"{part}{error}") from None
    return result


def describe(path: str) -> dict[str, Shape]:
    """Read names and shapes. ValueError: as `entries`."""
    return {name: entry.shape for name, entry in entries(path).items()}
