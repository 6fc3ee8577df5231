"""What check-adapter refuses, and what it prints of a device."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.adapter import check, device_table
from tests.adapter.programs import Outcome
from tests.npu.conftest import VERSION_1

FLAG = {"dtype": "int32", "inf_nan": False, "finite": [True, False, True]}


def test_a_folder_without_an_adapter_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert check.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("no npu_bridge or npu_device in it") == 1


def test_a_folder_whose_path_would_be_split_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert check.main([str(tmp_path / "a:b")]) == 2
    assert "separates folders" in capsys.readouterr().err


def test_a_checkout_without_the_script_of_its_build_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "tf_adapter_2.x" / "python" / "npu_device"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(check, "_interpreter", lambda given: (sys.executable, "2.6.5"))
    assert check.main([str(tmp_path)]) == 2
    assert "npu_device.compat.v1 cannot be made" in capsys.readouterr().err


def test_the_packages_own_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "npu_bridge").mkdir()
    assert check.main([str(tmp_path / "npu_bridge")]) == 2
    assert "give its parent" in capsys.readouterr().err


def test_another_package_on_the_way_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("wanted", "other"):
        (tmp_path / name / "npu_bridge").mkdir(parents=True)
        (tmp_path / name / "npu_bridge" / "__init__.py").write_text("")
    wanted, other = (tmp_path / name / "npu_bridge" for name in ("wanted", "other"))
    where = check.Where(sys.executable, "1.15.5", "npu_bridge", "master", True, str(other.parent), wanted)
    assert check._check_package(where) == 1 and f"is imported from {other}" in capsys.readouterr().out
    assert check._check_package(dataclasses.replace(where, package=other)) == 0
    (other / "__init__.py").write_text("raise RuntimeError('broken')")
    assert check._check_package(where) == 1 and "broken" in capsys.readouterr().out


def test_an_interpreter_without_a_tensorflow_that_fits_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "npu_bridge").mkdir()
    (tmp_path / "npu_bridge" / "__init__.py").write_text("")
    assert check.main([str(tmp_path), "--python", "/bin/false"]) == 2
    assert "no TensorFlow 1.15 or 2.6 in it" in capsys.readouterr().err


@pytest.mark.parametrize("place", device_table._LISTS)
def test_operations_that_are_not_on_the_devices_list_are_named(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({name: {"isGray": False, "isHeavy": False} for name in ("MatMul", "Add")}))
    known = device_table.listed({"ASCEND_OPP_PATH": str(tmp_path)})
    graphs = {"training": ["Add", "IdentityN"], "prediction": ["MatMul", "Erf"]}
    assert device_table.operations_row(graphs, known) == "4 types; not on the list: Erf, IdentityN"
    assert "no list found" in device_table.operations_row(graphs, device_table.listed({}))


def test_the_devices_table_holds_programs_flag_and_operations() -> None:
    outcome = Outcome("loops", told="steps 4 6")
    rows = list(device_table.rows(FLAG, {"training": ["Add"]}, [outcome], {"Add"}))
    assert rows[2:] == [
        "| loops | steps 4 6 |",
        "| overflow flag | the flag is int32; a product beyond float16 between two small ones:"
        " finite, overflow, finite |",
        "| operations | 1 types; not on the list: none |",
    ]


def test_a_flag_that_is_never_up_is_marked() -> None:
    assert device_table.flag_row({**FLAG, "finite": [True] * 3}).endswith("finite (NOT as expected)")


def test_the_programs_of_the_table_run(run_ranks: Any) -> None:
    """On the simulator, whose flag is up where it is told to be."""
    ended = run_ranks("flag.py", env={"NPU_SIMULATOR_OVERFLOW": "0:2"})
    assert ended.codes == [0] and ended.answers() == FLAG, ended.output
    ended = run_ranks("operations.py")
    assert ended.codes == [0], ended.output
    training, prediction = ended.answers()["training"], ended.answers()["prediction"]
    assert {"MatMul", "IteratorGetNext", "VarHandleOp"} <= set(training) and "MatMul" in prediction
    assert (
        "RefSwitch" in training
    ) == VERSION_1  # the managers' variables, of npu_bridge alone, are references
