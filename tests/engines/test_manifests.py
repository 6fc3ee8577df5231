"""Manifests against the schemas of Kubernetes, Volcano, MindCluster, and their operators' own rules."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.submit import kubernetes
from launcher.submit.job import read_job
from launcher.submit.kubernetes import KINDS, Options

pytestmark = pytest.mark.engines
SHARED = Path(os.environ.get("NPU_LAUNCH_SHARED", str(Path(__file__).resolve().parents[2].parent / "shared")))
VERSIONS = ("1.27", "1.37")
INSTALL = "pip install -e '.[engines]'"
CRDS = {"volcano": "batch.volcano.sh_jobs.yaml", "ascendjob": "mindxdl.gitee.com_ascendjobs.yaml"}
FULL = Options(
    image="registry.example/npu:1", nodes=3, name="squad", namespace="lab", claim="runs", cpus="96",
    volume=("data:/data:ro", "/nfs/code:/code"), memory="512Gi", time="1-2:00:00", host_network=True,
    priority_class="high", node_selector=("host-arch=huawei-arm",), secret=("tokens",), pull_secret="r",
    run_as="1000:100",
)  # fmt: skip
LEAST = Options(image="i", nodes=1, name="squad", claim="/nfs/runs")
TABLES = {"kubernetes": "", "volcano": "configmap", "ascendjob": "/user/mindx-dl/ranktable"}


def manifests(kind: str, options: Options, tmp_path: Path, framework: str = "") -> list[dict[str, Any]]:
    """Render a job and give its documents."""
    (tmp_path / "train.yaml").write_text("program: squad.run_squad\ndevices: 0-7\nchip: A2\n")
    job = read_job(str(tmp_path / "train.yaml"), [f"framework={framework}"] if framework else [], [])
    return list(yaml.safe_load_all(kubernetes.render(kind, job, options)))


def full(kind: str) -> Options:
    return replace(FULL, rank_table=TABLES[kind], queue="" if kind == "kubernetes" else "q")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [True, False])
def test_kubernetes_knows_every_field(version: str, kind: str, most: bool, tmp_path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason=INSTALL)
    checked = 0
    for document in manifests(kind, full(kind) if most else LEAST, tmp_path):
        if "." not in document["apiVersion"].partition("/")[0]:  # a kind of Kubernetes itself
            validate.validate(document, version, strict=True)
            checked += 1
    assert checked >= 1


def strict(schema: Any) -> Any:
    """Let a CRD's schema refuse unknown fields, as the server does with --validate=strict."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if found.pop("x-kubernetes-int-or-string", False):
        found.pop("type", None)
        found["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(found.get("properties"), dict) and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    pytest.importorskip("jsonschema", reason=INSTALL)
    folder = SHARED / "data" / "crds"
    if not folder.is_dir():
        pytest.skip("needs ../shared")
    found = {}
    for kind, name in CRDS.items():
        documents = yaml.safe_load_all((folder / name).read_text())
        crd = next(item for item in documents if item and item["kind"] == "CustomResourceDefinition")
        found[kind] = strict(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        for key in ("apiVersion", "kind", "metadata"):
            found[kind]["properties"].setdefault(key, {})
        found[kind]["properties"]["metadata"] = {"type": "object"}
    return found


def problems(schema: Any, document: Any) -> list[str]:
    import jsonschema

    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(document)]


@pytest.mark.parametrize("kind", sorted(CRDS))
@pytest.mark.parametrize("most", [True, False])
def test_the_operators_schema_knows_every_field(
    kind: str, most: bool, schemas: dict[str, Any], tmp_path: Path
) -> None:
    main = manifests(kind, full(kind) if most else LEAST, tmp_path)[-1]
    assert problems(schemas[kind], main) == []


@pytest.mark.parametrize("kind", sorted(CRDS))
def test_the_schemas_would_find_what_is_wrong(kind: str, schemas: dict[str, Any], tmp_path: Path) -> None:
    main = manifests(kind, full(kind), tmp_path)[-1]
    for change in ({"replicas": "one"}, {"nonsense": 1}, {"template": {"spec": {"containrs": []}}}):
        broken = copy.deepcopy(main)
        spec = broken["spec"]
        target = spec["tasks"][0] if kind == "volcano" else spec["replicaSpecs"]["Worker"]
        target.update(change)
        assert problems(schemas[kind], broken)


LEADERS = {"tensorflow": "Chief", "pytorch": "Master", "mindspore": "Scheduler"}


@pytest.mark.parametrize("framework", ["tensorflow", "torch", "mindspore", "paddle"])
@pytest.mark.parametrize("nodes", [1, 2, 20000])
def test_the_ascend_operators_own_rules(
    nodes: int, framework: str, schemas: dict[str, Any], tmp_path: Path
) -> None:
    """Keep to ascendjob_validate.go of MindCluster 22bb3d9: framework, roles, replicas, container, queue."""
    options = replace(full("ascendjob"), nodes=nodes)
    main = manifests("ascendjob", options, tmp_path, framework)[-1]
    assert problems(schemas["ascendjob"], main) == []
    roles = main["spec"]["replicaSpecs"]
    leader = LEADERS[main["metadata"]["labels"]["framework"]]
    assert set(roles) <= {leader, "Worker"} and roles[leader]["replicas"] == 1
    assert all(role["replicas"] for role in roles.values())
    assert sum(role["replicas"] for role in roles.values()) == nodes <= 20000
    assert main["spec"].get("successPolicy", "") in ("", "AllWorkers")
    for role in roles.values():
        containers = role["template"]["spec"]["containers"]
        assert [item["name"] for item in containers] == ["ascend"] and containers[0]["image"]
        requests = containers[0]["resources"]["requests"]
        assert requests == containers[0]["resources"]["limits"] and int(requests["huawei.com/Ascend910"]) > 0


def test_volcanos_own_rules(tmp_path: Path) -> None:
    """Keep to Volcano's webhook (ed72c7c): known actions, minAvailable at most the replicas, DNS names."""
    spec = manifests("volcano", full("volcano"), tmp_path)[-1]["spec"]
    policies = [*spec["policies"], *(policy for task in spec["tasks"] for policy in task["policies"])]
    assert {policy["action"] for policy in policies} <= {"AbortJob", "CompleteJob"}
    assert len({policy["event"] for policy in policies}) == len(policies)
    assert spec["minAvailable"] <= sum(task["replicas"] for task in spec["tasks"])
    assert set(spec["plugins"]) <= {"env", "svc"}
