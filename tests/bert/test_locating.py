"""What a path to a checkpoint means, and what is said where there is none."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert import files
from bert.checkpoints import absent, index

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
CONVERT = "save_pretrained"


def touch(folder: Path, *names: str, data: bytes = b"x" * 600) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder)


def checkpoint(folder: Path, name: str, **about: object) -> None:
    """Make the files of a TensorFlow checkpoint; about: the content of the JSON that this program adds."""
    touch(folder, name + ".index", name + ".data-00000-of-00001")
    if about:
        (folder / (name + ".json")).write_text(json.dumps(about))


def record(name: str, size: int = 600) -> dict[str, object]:
    return {f"{name}.{end}": {"bytes": size} for end in ("index", "data-00000-of-00001")}


@pytest.mark.parametrize("end", ["", ".index", ".meta", ".data-00000-of-00001", ".data-00001-of-00002"])
def test_a_prefix_may_be_spelled_as_any_of_its_files(tmp_path: Path, end: str) -> None:
    checkpoint(tmp_path, "bert_model.ckpt")
    assert index.resolve(str(tmp_path / "bert_model.ckpt") + end) == str(tmp_path / "bert_model.ckpt")


def test_the_newest_complete_checkpoint_of_a_run_is_meant_by_its_folder(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        checkpoint(tmp_path, f"model.ckpt-{step}", files=record(f"model.ckpt-{step}"))
    touch(tmp_path, "checkpoint", data=b'model_checkpoint_path: "model.ckpt-2"\n')
    newest = str(tmp_path / "model.ckpt-10")
    assert index.resolve(str(tmp_path)) == index.resolve(str(tmp_path / "checkpoint")) == newest
    touch(tmp_path, "model.ckpt-10.data-00000-of-00001", data=b"cut")
    assert index.resolve(str(tmp_path)) == str(tmp_path / "model.ckpt-9")
    assert index.newer(index.prefixes_in(str(tmp_path)), str(tmp_path / "model.ckpt-9")) == [newest]


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("b", "b"), ("/where/it/was/made/b", "b"), ("../b", "b"), ("c", ""), ("../../etc/passwd", ""),
    ],
)  # fmt: skip
def test_tensorflows_pointer_is_followed_inside_its_folder_alone(
    tmp_path: Path, pointer: str, found: str
) -> None:
    for name in "ab":
        checkpoint(tmp_path, name)
    lines = f'model_checkpoint_path: "{pointer}"\nall_model_checkpoint_paths: "a"\n'
    touch(tmp_path, "checkpoint", data=lines.encode())
    assert index.find(str(tmp_path)) == (str(tmp_path / f"{found}.index") if found else None)
    if not found:
        assert "several (a, b) and its file `checkpoint` names none" in absent.explain(str(tmp_path))


def test_one_part_of_a_model_in_several_means_all(tmp_path: Path) -> None:
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    touch(tmp_path, *names)
    whole = "model.safetensors.index.json"
    (tmp_path / whole).write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    paths = [str(tmp_path / name) for name in names]
    for given_path in (tmp_path, tmp_path / names[1], tmp_path / whole):
        assert index.files(str(given_path)) == paths
    os.unlink(paths[0])
    for given_path in (tmp_path, tmp_path / names[1], tmp_path / whole):
        assert f"{whole} names {names[0]}, missing" in absent.explain(str(given_path))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["config.json", "pytorch_model.bin"], f"pytorch_model.bin, a pickle .*{CONVERT}"),
        (["pytorch_model.bin.index.json"], "a pickle"),
        (["tf_model.h5"], f"tf_model.h5, TensorFlow 2's HDF5.*from_tf=True.*{CONVERT}"),
        (["flax_model.msgpack"], f"Flax.*from_flax=True.*{CONVERT}"),
        (["model.onnx"], "model.onnx, a graph for inference"),
        (["saved_model.pb", "variables/variables.index"], "is a SavedModel"),
        (["adapter_config.json", "adapter_model.safetensors"], "an adapter .LoRA., not a whole model; merge"),
        (["uncased_L-12_H-768_A-12.zip"], "an archive; unpack it"),
        (["bert_model.ckpt.data-00000-of-00001"], "bert_model.ckpt.index is missing; copy all files"),
        (["bert_model.ckpt.meta"], "bert_model.ckpt.index is missing; copy all files"),
        (
            ["checkpoints/m.data-00000-of-00001", "checkpoints/m.index", "logs/rank_0.index"],
            "a folder in it holds one: checkpoints; give that",
        ),
        (["checkpoint-500/model.safetensors"], "a folder in it holds one: checkpoint-500; give that"),
        (["snapshots/1a2b/model.safetensors", "refs/main"], "holds one: snapshots/1a2b"),
        (["optimizer.pt", "config.json"], "holds no weights, but config.json, optimizer.pt"),
        ([], "the folder is empty"),
    ],
)
def test_a_folder_without_checkpoint_is_told_by_what_it_holds(
    tmp_path: Path, names: list[str], said: str
) -> None:
    folder = touch(tmp_path, *names)
    assert index.find(folder) is None
    text = absent.explain(folder)
    assert text.startswith("no checkpoint; ") and "\n" not in text
    assert re.search(said, text), text


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("model.zip", b"PK\x03\x04", "an archive; unpack it"),
        ("model.tar.gz", b"\x1f\x8b", "an archive"),
        ("model.pt", b"PK\x03\x04", "a pickle"),
        ("weights", b"\x80\x02}", "a pickle"),
        ("weights", b"\x89HDF\r\n", "HDF5"),
        ("weights", b"<!DOCTYPE html>", "a web page"),
        ("weights", LFS, "Git LFS pointer"),
        ("weights", b"", "the file is empty"),
        ("weights", b"x" * 50, "a file of another kind; give a prefix"),
        ("bert_model.ckpt", b"x" * 40 + (0xDB4775248B80FB57).to_bytes(8, "little"), "checkpoint format V1"),
        ("bert_model.ckpt.meta", b"x", "bert_model.ckpt.index is missing"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_told_by_its_kind(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    touch(tmp_path, name, data=data)
    assert said in absent.explain(str(tmp_path / name))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("bert-base-chinese", "huggingface-cli download bert-base-chinese --local-dir DIR"),
        ("deepset/bert-large-squad2", "models of the Hugging Face hub are not downloaded here"),
        ("model.ckpt-9", "the folder holds model.ckpt-1, model.ckpt-2"),
        ("./none", "give a prefix (PREFIX.index exists) or safetensors"),
        ("none/model.ckpt-1", "none does not exist"),
        ("half", "half.index is missing; copy all files"),
    ],
)
def test_a_path_at_which_nothing_stands_is_told_by_what_is_near(
    tmp_path: Path, typed: str, said: str
) -> None:
    checkpoint(tmp_path, "model.ckpt-1")
    checkpoint(tmp_path, "model.ckpt-2")
    touch(tmp_path, "half.data-00000-of-00001")
    assert said in absent.explain(os.path.join(tmp_path, typed), typed)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: os.mkfifo(path), "model.safetensors is a FIFO"),
        (
            lambda path: os.symlink("../../blobs/1a2b", path),
            "is a link to ../../blobs/1a2b, which is missing",
        ),
    ],
)
def test_what_is_no_regular_file_is_never_opened(
    tmp_path: Path, make: Callable[[str], None], said: str
) -> None:
    make(str(tmp_path / "model.safetensors"))
    assert index.find(str(tmp_path)) is None
    assert said in absent.explain(str(tmp_path))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["model.safetensors", "a.index", "checkpoint", "a.json", "a", "config.json"]),
    st.one_of(st.binary(max_size=200), st.sampled_from([b"{", b"[" * 5000, b'{"files": 1}', LFS])),
)
def test_whatever_a_file_holds_costs_one_line(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    touch(folder, name, data=data)
    for path in (str(folder), str(folder / name)):
        try:
            index.entries(path)
        except ValueError as error:
            assert "\n" not in str(error)
        try:
            files.read_object(path)
        except ValueError as error:
            assert "\n" not in str(error)
