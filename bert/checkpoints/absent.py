"""Say what stands in place of a checkpoint, and what to do. Stdlib only; nothing is ever unpickled."""

from __future__ import annotations

import glob
import os
import re

from bert import files
from bert.checkpoints import headers

NONE = "no checkpoint; give a prefix (PREFIX.index exists) or safetensors"
_CONVERT = (
    "with transformers write it as safetensors: BertForQuestionAnswering.from_pretrained(FOLDER)"
    ".save_pretrained(NEW_FOLDER, safe_serialization=True)"
)
_PICKLE = f"a pickle of PyTorch, which is never loaded, as it can run any program; {_CONVERT}"
_KERAS = f"TensorFlow 2's HDF5, which is not read; {_CONVERT.replace('(FOLDER)', '(FOLDER, from_tf=True)')}"
_FLAX = f"Flax's format, which is not read; {_CONVERT.replace('(FOLDER)', '(FOLDER, from_flax=True)')}"
_ARCHIVE = "an archive; unpack it and give the prefix or folder inside"
_MODEL = "a graph for inference, which is not read; give the checkpoint or safetensors that it was made from"
_BY_NAME = (
    (r"(\.zip|\.tar|\.t?gz|\.tar\.\w+|\.tgz|\.bz2|\.xz|\.7z|\.rar|\.zst)$", _ARCHIVE),
    (
        r"adapter_(model|config)\.(safetensors|bin|json)$",
        "an adapter (LoRA), not a whole model; merge it first",
    ),
    (r"\.(bin|pt|pth|pkl|pickle|ot)(\.index\.json)?$", _PICKLE),
    (r"\.(h5|hdf5|keras)(\.index\.json)?$", _KERAS),
    (r"\.msgpack(\.index\.json)?$", _FLAX),
    (r"\.(onnx|pb|pbtxt|tflite|om|gguf|ggml|mlmodel)$", _MODEL),
    (r"\.npz$|\.npy$", "arrays of numpy, which are not read; give TensorFlow's checkpoint or safetensors"),
)
_BY_START = (
    (b"\x89HDF", _KERAS),
    (b"\x1f\x8b", _ARCHIVE),
    (b"BZh", _ARCHIVE),
    (b"\xfd7zXZ", _ARCHIVE),
    (b"PK\x03\x04", f"a zip: an archive to unpack, or {_PICKLE}"),
    (b"\x80", _PICKLE),
    (b"<", "a web page, not the file itself; download the file again"),
)
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")
_PART = re.compile(r"(-\d{5}-of-\d{5}\.safetensors|\.safetensors\.index\.json)$")


def explain(path: str, given: str = "") -> str:
    """Say in a line why a path is no checkpoint and what to do; `given`: as the user typed it."""
    try:
        if os.path.isdir(path):
            return f"no checkpoint; {_folder(path)}"
        if os.path.lexists(path):
            pointer = os.path.basename(path) == "checkpoint"  # TensorFlow's file of that name
            return f"no checkpoint; {_folder(os.path.dirname(path)) if pointer else _file(path)}"
        return _nothing(path, given)
    except OSError as error:
        return f"no checkpoint; {error.filename or path}: {error.strerror or error}"


def _file(path: str) -> str:
    folder, name = os.path.split(path)
    problem = _irregular(path) or (_parts(folder, os.listdir(folder)) if _PART.search(name) else "")
    if problem:
        return problem
    with open(path, "rb") as stream:
        start = stream.read(512)
        stream.seek(max(0, os.path.getsize(path) - 8))
        end = stream.read()
    if not start:
        return "the file is empty; download or copy it again"
    if start.startswith(files.LFS_START):
        return files.LFS
    spelled = headers.OF_PREFIX.match(path)
    if spelled:
        return f"{os.path.basename(spelled.group(1))}.index is missing; copy all files of the checkpoint"
    known = _by_name(path) or next((text for magic, text in _BY_START if start.startswith(magic)), "")
    if not known and headers.is_table(end):
        return "TensorFlow's checkpoint format V1, which is not read; save it with tf.train.Saver again (V2)"
    if not known and start[257:262] == b"ustar":
        return _ARCHIVE
    return known or "a file of another kind; give a prefix (PREFIX.index exists) or safetensors"


def _irregular(path: str) -> str:
    if not os.path.exists(path):
        return f"a link to {os.readlink(path)}, which is missing; download the model again"
    return files.irregular(path)


def _by_name(path: str) -> str:
    name = os.path.basename(path).lower()
    return next((text for pattern, text in _BY_NAME if re.search(pattern, name)), "")


def _folder(folder: str) -> str:
    names = sorted(os.listdir(folder))
    for rule in (_odd, _parts, _several, _orphans, _others, _below):
        found = rule(folder, names)
        if found:
            return found
    if not names:
        return "the folder is empty"
    more = ", ..." if len(names) > 6 else ""
    return f"the folder holds no weights, but {', '.join(names[:6])}{more}; {NONE.partition('; ')[2]}"


def _odd(folder: str, names: list[str]) -> str:
    """Find weights that are no regular files, or links to nothing (a cache that was cleaned)."""
    weights = [name for name in names if name.endswith((".safetensors", ".index"))]
    found = ((name, _irregular(os.path.join(folder, name))) for name in weights)
    return next((f"{name} is {problem}" for name, problem in found if problem), "")


def _parts(folder: str, names: list[str]) -> str:
    """Name the missing parts of a model in several safetensors."""
    if headers.PARTS not in names:
        return ""
    try:
        wanted = headers.parts(folder)
    except ValueError as error:
        return f"{headers.PARTS}: {error}"
    missing = ", ".join([os.path.basename(path) for path in wanted if not os.path.isfile(path)][:3])
    return f"{headers.PARTS} names {missing}, missing in the folder; download the rest" if missing else ""


def _several(folder: str, names: list[str]) -> str:
    """List checkpoints of which none is marked as the newest."""
    found = [name[: -len(".index")] for name in names if name.endswith(".index")]
    found += [name for name in names if name.endswith(".safetensors") and not _by_name(name)]
    if len(found) < 2:
        return ""
    shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    return f"the folder holds several ({shown}) and its file `checkpoint` names none of them; give one"


def _orphans(folder: str, names: list[str]) -> str:
    found = [match for match in map(headers.OF_PREFIX.match, names) if match]
    return f"{found[0].group(1)}.index is missing; copy all files of the checkpoint" if found else ""


def _others(folder: str, names: list[str]) -> str:
    """Name weights that other programs read."""
    if "saved_model.pb" in names:
        return f"the folder is a SavedModel: {_MODEL}"
    found = [name for name in names if _by_name(name) and os.path.isfile(os.path.join(folder, name))]
    weights = [
        name for name in found if not name.startswith(("optimizer", "scheduler", "training_args", "rng"))
    ]
    return f"the folder holds {weights[0]}, {_by_name(weights[0])}" if weights else ""


def _below(folder: str, names: list[str]) -> str:
    """Find checkpoints one folder down, or two in the layout of Hugging Face's cache."""
    for pattern in ("*/*.data-00000-of-*", "*/model.safetensors*", "snapshots/*/model.safetensors*"):
        found = glob.glob(os.path.join(glob.escape(folder), pattern))
        below = sorted({os.path.relpath(os.path.dirname(name), folder) for name in found})
        if below:
            more = ", ..." if len(below) > 3 else ""
            return f"a folder in it holds one: {', '.join(below[:3])}{more}; give that folder"
    return ""


def _nothing(path: str, given: str) -> str:
    """Say what is near a path at which nothing stands."""
    folder, name = os.path.split(path)
    if headers.OF_PREFIX.match(name):
        return NONE
    if glob.glob(glob.escape(path) + ".data-*") or os.path.lexists(path + ".meta"):
        return f"no checkpoint; {name}.index is missing; copy all files of the checkpoint"
    if _HUB.match(given) and ".ckpt" not in given and not _by_name(given) and not _is_near(path, given):
        return (
            "no checkpoint; no such file or folder; models of the Hugging Face hub are not downloaded here:"
            f" `huggingface-cli download {given} --local-dir DIR`, then give DIR"
        )
    stem = glob.escape(os.path.join(folder, re.sub(r"-\d+$", "", name)))
    near = sorted(os.path.basename(found)[: -len(".index")] for found in glob.glob(stem + "*.index"))
    if near:
        return f"no checkpoint; the folder holds {', '.join(near[-5:])}"
    return NONE if os.path.isdir(folder) else f"{NONE}; the folder {folder} does not exist"


def _is_near(path: str, given: str) -> bool:
    """Tell whether a relative path of two parts leads into a folder that exists."""
    return "/" in given and os.path.isdir(os.path.dirname(path))
