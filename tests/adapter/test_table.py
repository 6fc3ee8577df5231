"""The table is held against a source: one made of the table itself, then bent in one place after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from tests.adapter import table
from tests.adapter.source import Source, Unreadable
from tests.adapter.table import MOVED, TABLE

OPS, PY = "tf_adapter/ops", "tf_adapter/python/npu_bridge"
Lines = Dict[str, Dict[int, str]]  # file -> line -> text


def form(forms: Any, branch: str) -> Any:
    return next((form for form in forms if branch in form["places"]), None)


def put(lines: Lines, place: str, text: str) -> None:
    file, _, number = place.rpartition(":")
    held = lines.setdefault(file, {})
    held[int(number)] = f"{held[int(number)]} {text}" if int(number) in held else text


def operations(branch: str) -> Iterator[tuple[str, str]]:
    for name, forms in TABLE["operations"].items():
        entry = form(forms, branch)
        if entry:
            parts = [(kind, text) for kind in ("inputs", "outputs", "attrs") for text in entry[kind]]
            calls = "".join(f'.{kind[:-1].capitalize()}("{text}")' for kind, text in parts)
            yield entry["places"][branch], f'REGISTER_OP("{name}"){calls};'


def functions(branch: str) -> Iterator[tuple[str, str]]:
    """Give each function's definition at its line; a class begins in the line before its first method."""
    seen = set()
    for name, forms in TABLE["functions"].items():
        entry = form(forms, branch)
        if not entry:
            continue
        place, qualified = entry["places"][branch], name.partition(":")[2]
        owner, _, method = qualified.rpartition(".")
        signature = entry["signature"]
        if owner:
            signature = "(self" + (", " if signature != "()" else "") + signature[1:]
            file, _, number = place.rpartition(":")
            if (file, owner) not in seen:
                yield f"{file}:{int(number) - 1}", f"class {owner}:"
            seen.add((file, owner))
        yield place, f"{'    ' if owner else ''}def {method}{signature}: pass"


def made(folder: Path, branch: str) -> Source:
    """Write a source that says all that the table says of a branch, and nothing else."""
    lines: Lines = {}
    for place, text in [*operations(branch), *functions(branch)]:
        put(lines, place, text)
    for _, (word, place, _) in table._places(branch):
        comment = "#" if place.rpartition(":")[0].endswith(".py") else "//"
        held = lines.get(place.rpartition(":")[0], {})
        if word not in held.get(int(place.rpartition(":")[2]), ""):
            put(lines, place, f"{comment} {word}")
    modes = TABLE["parameters"]["precision_mode"]["one_of"].get(branch)
    if modes:
        place = TABLE["refusals"]["precision_mode"]["places"][branch]
        put(lines, place, "{{{}}}".format(", ".join(f'"{mode}"' for mode in modes)))
    for file, texts in lines.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(texts.get(number, "") for number in range(1, max(texts) + 1)) + "\n")
    for package in ("tf_adapter/python/npu_bridge", "tf_adapter_2.x/python/npu_device"):
        with (folder / package / "__init__.py").open("a"):
            pass
    return Source(folder)


@pytest.mark.parametrize("branch", sorted(TABLE["branches"]))
def test_a_source_made_of_the_table_is_recognised_and_differs_nowhere(tmp_path: Path, branch: str) -> None:
    assert table.closest(made(tmp_path, branch)) == (branch, [])


def bend(folder: Path, file: str, old: str, new: str) -> tuple[str, Any]:
    source = made(folder, "master")
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return table.closest(source)


@pytest.mark.parametrize(
    "file, old, new, words",
    [
        (f"{OPS}/aicore/npu_mixed_precesion_ops.cc", "data: int32", "data: float", "NpuGetFloatStatusV2"),
        (f"{OPS}/hccl/hccl_ops.cc", "int16, int32, int64,", "int16, int32,", "HcomAllReduce: attrs"),
        (f"{OPS}/npu_ops.cc", 'REGISTER_OP("NPUInit")', "", "NPUInit: not in the source"),
        (f"{PY}/hccl/hccl_ops.py", "fusion=1", "fusion=2", "hccl_ops:allreduce"),
        (f"{PY}/estimator/npu/npu_plugin.py", "is_inf_nan_enabled", "other", "is_inf_nan"),
        ("tf_adapter/util/npu_attrs.cc", '"allow_fp32_to_bf16"', "", "precision_mode: the table has"),
        ("tf_adapter/kernels/geop_npu.cc", "per_loop_ > 1", "per_loop_ > 7", "loop_needs"),
        (f"{PY}/estimator/npu/util.py", "iterations_per_loop - 1", "iterations_per_loop - 2", "one_less"),
        (f"{PY}/hccl/hccl_ops.py", "root_rank, fusion=2", "root_rank, *rest, fusion=2", "hccl_ops:broadcast"),
        (f"{PY}/hccl/hccl_ops.py", "rank_size, group='hccl_world_group'", "rank_size, group=ALL", "gather"),
        ("tf_adapter/util/npu_attrs.cc", '"precision_mode").s()', '"precision_mode").i()', "precision_mode"),
    ],
)  # fmt: skip
def test_what_differs_is_named(tmp_path: Path, file: str, old: str, new: str, words: str) -> None:
    branch, found = bend(tmp_path, file, old, new)
    assert branch == "master" and len(found) == 1
    assert words in found[0] and not found[0].startswith(MOVED)


def test_lines_that_have_only_moved_are_told_apart(tmp_path: Path) -> None:
    source = made(tmp_path, "master")
    path = tmp_path / "tf_adapter" / "python" / "npu_bridge" / "hccl" / "hccl_ops.py"
    path.write_text("\n" + path.read_text())
    branch, found = table.closest(source)
    assert branch == "master" and len(found) == 3 and all(text.startswith(MOVED) for text in found)


@pytest.mark.parametrize(
    "text", [b"print 'Python 2'\n", b"name = '\xe9'\n", b"\0"], ids=["python 2", "latin 1", "nul"]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: bytes) -> None:
    source = made(tmp_path, "master")
    (tmp_path / PY / "hccl" / "hccl_ops.py").write_bytes(text)
    with pytest.raises(Unreadable, match=r"hccl_ops\.py: "):
        table.closest(source)


def test_an_installation_is_compared_by_its_signatures_alone(tmp_path: Path) -> None:
    made(tmp_path / "checkout", "r1.8.0")
    installed = Source(tmp_path / "checkout" / "tf_adapter" / "python")
    assert table.closest(installed) == ("r1.8.0", [])


def test_the_sources_named_in_the_environment_are_those_of_the_table() -> None:
    """NPU_ADAPTER_SOURCE: folders with checkouts, separated by colons."""
    import os

    named = [folder for folder in os.environ.get("NPU_ADAPTER_SOURCE", "").split(":") if folder]
    if not named:
        pytest.skip("no checkout of the adapter's source is named (NPU_ADAPTER_SOURCE)")
    for folder in named:
        branch, found = table.closest(Source(Path(folder)))
        assert [text for text in found if not text.startswith(MOVED)] == [], (folder, branch)
