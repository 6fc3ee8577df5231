"""What the simulator offers is what its table says, and what the backend uses is in the table."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, Iterator

import pytest

from bert.backend.npu_options import NpuOptions
from tests.adapter.table import TABLE
from tests.npu.conftest import BRANCHES, ROOT, VERSION_1

REMOVED_IN_2 = "npu_bridge.estimator.npu.npu_loss_scale_manager"
# Shapes of the outputs for inputs [4, 2] and three ranks, as the definitions' shape functions give them.
SHAPES = {
    "HcomAllGather": [12, 2], "NpuAllocFloatStatus": [1], "NpuGetFloatStatus": [1],
    "NpuClearFloatStatus": [1], "NpuGetFloatStatusV2": [8], "DropOutGenMask": [16],
}  # fmt: skip


def form(forms: list[dict[str, Any]], branch: str) -> dict[str, Any]:
    return next((form for form in forms if branch in form["places"]), {})


@pytest.fixture(scope="module", params=BRANCHES)
def branch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def offered(branch: str, run_ranks: Any) -> dict[str, Any]:
    names = json.dumps([*TABLE["functions"], *TABLE["hccl"]])
    ended = run_ranks("names.py", env={"NPU_SIMULATOR_ADAPTER": branch}, args=[names])
    assert ended.codes == [0], ended.output
    return ended.answers()


def test_signatures_are_those_of_the_table(branch: str, offered: dict[str, Any]) -> None:
    for name, forms in TABLE["functions"].items():
        want = form(forms, branch).get("signature", "")
        if name.startswith("npu_device" if VERSION_1 else REMOVED_IN_2):
            want = ""
        assert offered["functions"][name] == want, name
    for name, entry in TABLE["hccl"].items():
        assert offered["functions"][name] == entry["signature"], name


def test_outputs_have_the_types_and_shapes_of_the_definitions(branch: str, offered: dict[str, Any]) -> None:
    wanted = {name: form(forms, branch) for name, forms in TABLE["operations"].items()}
    assert set(offered["operations"]) == {name for name, entry in wanted.items() if entry}
    for name, outputs in offered["operations"].items():
        declared = [text.partition(":")[2].strip() for text in wanted[name]["outputs"]]
        types = ["float32" if kind in ("T", "float") else kind for kind in declared]
        assert outputs[:1] == types, (branch, name)
        assert outputs[1:] == ([SHAPES.get(name, [4, 2])] if types else []), (branch, name)


def test_every_name_has_its_place_on_master_and_most_on_the_oldest_branch() -> None:
    missing = set()
    for section in ("functions", "operations"):
        for name, forms in TABLE[section].items():
            places = {branch: place for entry in forms for branch, place in entry["places"].items()}
            assert ":" in places["master"], name
            missing |= {name} - {name for branch in places if branch == "r1.8.0"}
    assert missing == {
        "npu_bridge.estimator.npu.npu_plugin:is_inf_nan_enabled", "npu_device.npu_device:is_inf_nan_enabled",
        "npu_bridge.estimator.npu.npu_config:set_npu_default_config",
        "npu_bridge.estimator.npu.npu_config:decorator_tf_session",
    }  # fmt: skip


# Fields of bert.backend.adapter.Adapter, and where the table has the names that are asked of them.
FIELDS = {
    "npu_ops": "npu_bridge.estimator.npu_ops", "hccl_ops": "npu_bridge.hccl.hccl_ops",
    "util": "npu_bridge.estimator.npu.util", "hccl": "hccl.manage.api",
    "loss_scale": "npu_bridge.estimator.npu.npu_loss_scale_manager", "unary_ops": "", "float_status": "",
}  # fmt: skip


def asked_of_the_adapter(source: str) -> Iterator[str]:
    """Give every "field.name" that a module asks of self._adapter, also by way of a local variable."""
    tree = ast.parse(source)
    local: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            field = _field(node.value)
            if field in FIELDS:
                local[node.targets[0].id] = field
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            field = _field(node.value)
            if field not in FIELDS and isinstance(node.value, ast.Name):
                field = local.get(node.value.id, "")
            if field in FIELDS:
                yield f"{field}.{node.attr}"
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            field = local.get(getattr(node.args[0], "id", ""), "")
            if field:
                yield f"{field}.{ast.literal_eval(node.args[1])}"


def _field(node: ast.AST) -> str:
    """Give FIELD of an expression self._adapter.FIELD."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
        return node.attr if node.value.attr == "_adapter" else ""
    return ""


def test_every_name_that_the_backend_uses_is_in_the_table() -> None:
    source = (ROOT / "bert" / "backend" / "npu.py").read_text(encoding="utf-8")
    asked = set(asked_of_the_adapter(source))
    assert {"hccl_ops.allreduce", "util.IterationPerLoop", "float_status.npu_get_float_status_v2"} <= asked
    operations: set[str] = {name.replace("_", "") for name in map(str.lower, TABLE["operations"])}
    for name in sorted(asked):
        field, _, word = name.partition(".")
        names = {
            key.split(".__init__")[0].split(".create_")[0] for key in (*TABLE["functions"], *TABLE["hccl"])
        }
        assert f"{FIELDS[field]}:{word}" in names or word.replace("_", "") in operations, name


def test_every_module_that_is_imported_of_the_adapter_is_in_the_table() -> None:
    source = (ROOT / "bert" / "backend" / "adapter.py").read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    modules = {
        ast.literal_eval(call.args[0]) for call in calls if getattr(call.func, "id", "") == "import_module"
    }
    assert {"npu_bridge.npu_init", "hccl.manage.api", "npu_device"} <= modules
    known = {name.split(":")[0] for section in ("functions", "values", "hccl") for name in TABLE[section]}
    for module in modules - {"npu_device"}:
        assert module.replace("npu_device.compat.v1", "npu_bridge") in known, module


def test_every_parameter_of_a_session_is_in_the_table_with_its_type(tmp_path: Path) -> None:
    kinds = {bool: "b", int: "i", str: "s"}
    dumps = NpuOptions(data_dump_flag=True, data_dump_step="0|5", profiling=True, enable_exception_dump=1)
    overflows = NpuOptions(over_dump=True)
    for options in (dumps, overflows):
        for key, value in options.parameters(str(tmp_path)).items():
            assert TABLE["parameters"][key]["field"] == kinds[type(value)], key
