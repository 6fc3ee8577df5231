"""A package runs over the stand-ins: ours, with two modules that load what is compiled as the real ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.adapter import overlay, ranks
from tests.adapter.ranks import SIMULATOR
from tests.adapter.source import Source
from tests.npu.conftest import VERSION_1

HELPER = """\
import pathlib
import tensorflow

loaded = tensorflow.load_op_library(str(pathlib.Path(__file__).parents[1] / "_tf_adapter.so"))
version = "v1.15.0"


def get_gen_ops():
    return loaded
"""
PLUGIN = """\
from npu_bridge import tf_adapter


def is_inf_nan_enabled():
    return bool(tf_adapter.GetDeviceSatMode())


def npu_close():
    tf_adapter.NpuClose()
"""


@pytest.fixture
def source(tmp_path: Path) -> Source:
    package = tmp_path / "installed" / "npu_bridge"
    shutil.copytree(str(SIMULATOR / "npu_bridge"), str(package))
    (package / "helper" / "helper.py").write_text(HELPER)
    (package / "estimator" / "npu" / "npu_plugin.py").write_text(PLUGIN)
    return Source(tmp_path / "installed")


@pytest.mark.skipif(not VERSION_1, reason="npu_bridge is for TensorFlow 1.15")
@pytest.mark.parametrize("inf_nan", ["0", "1"])
def test_a_package_finds_the_stand_ins_where_it_loads_its_libraries(
    source: Source, tmp_path: Path, inf_nan: str
) -> None:
    for name in ("over", "run"):
        (tmp_path / name).mkdir()
    env = {
        "PYTHONPATH": overlay.python_path(source, tmp_path / "over", "npu_bridge"),
        "NPU_SIMULATOR_INF_NAN": inf_nan,
    }
    ended: Any = ranks.run(tmp_path / "run", "backend.py", 1, env, [json.dumps({}), "[1, 1]"])
    assert ended.codes == [0], ended.output
    assert ("NpuGetFloatStatusV2" in ended.reports[0]["calls"]) == (inf_nan == "0")


def test_libraries_of_their_own_are_not_stood_in_for(source: Source) -> None:
    assert overlay.stand_ins_needed(source, "npu_bridge")
    (source.root / "npu_bridge" / "_tf_adapter.so").write_bytes(b"")
    assert not overlay.stand_ins_needed(source, "npu_bridge")


def test_a_folder_without_the_package_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no package npu_device"):
        overlay.python_path(Source(tmp_path), tmp_path, "npu_device")
