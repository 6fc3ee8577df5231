"""Manifests: what the cluster's own schemas and the operators' own rules accept, and what users may write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.submit import kubernetes, manifest, options
from launcher.submit.job import read_job
from launcher.submit.kubernetes import KINDS, Options
from tests.launching import launch

JOB = """\
job: squad_2
program: squad.run_squad
devices: 0-7
chip: A2
grace: 12.5
args:
  name: it's "1"
"""
TABLES = {"kubernetes": "", "volcano": "configmap", "ascendjob": "/user/mindx-dl/ranktable"}
FULL = Options(
    image="registry.example/npu:1", nodes=3, name="squad", namespace="lab", claim="runs", cpus="96",
    volume=("data:/data:ro", "/nfs/code:/code"), memory="512Gi", time="1-2:00:00", host_network=True,
    priority_class="high", node_selector=("host-arch=huawei-arm", "accelerator-type=module-910b-8"),
    secret=("tokens",), pull_secret="registry", run_as="1000:100",
)  # fmt: skip


@pytest.fixture
def job(tmp_path: Path) -> Any:
    (tmp_path / "train.yaml").write_text(JOB)
    return read_job(str(tmp_path / "train.yaml"), ["lr=1e-4"], ["sh", "-c", "echo $RANK_ID; true"])


def full(kind: str, **changes: Any) -> Options:
    """Give options that set everything that a kind of job takes."""
    own = {"rank_table": TABLES[kind], "queue": "" if kind == "kubernetes" else "q"}
    return replace(FULL, **{**own, **changes})


def documents(kind: str, job: Any, options: Options) -> dict[str, Any]:
    """Render a manifest and give its documents by kind; the job's own as `Main`."""
    text = kubernetes.render(kind, job, options)
    found = list(yaml.safe_load_all(text))
    main = [item for item in found if item["kind"] in ("Job", "AscendJob")]
    assert len(main) == 1
    return {**{item["kind"]: item for item in found}, "Main": main[0]}


def pods(main: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the pods of a job of any kind."""
    spec = main["spec"]
    if "tasks" in spec:
        return [task["template"]["spec"] for task in spec["tasks"]]
    if "replicaSpecs" in spec:
        return [replica["template"]["spec"] for replica in spec["replicaSpecs"].values()]
    return [spec["template"]["spec"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_comes_to_the_pods_as_it_was_written(kind: str, job: Any) -> None:
    found = documents(kind, job, full(kind))
    assert found["ConfigMap"]["data"].get("train.yaml", JOB) == JOB
    for pod in pods(found["Main"]):
        assert pod["containers"][0]["command"] == ["npu-launch"]
        words = pod["containers"][0]["args"]
        assert words[:2] == ["/npu-launch/job/train.yaml", "lr=1e-4"]
        assert words[-4:] == ["--", "sh", "-c", "echo $RANK_ID; true"]
        assert "runs_dir=/npu-launch/runs" in words


@pytest.mark.parametrize("kind", KINDS)
def test_pods_end_together_and_hold_no_rights(kind: str, job: Any) -> None:
    for pod in pods(documents(kind, job, full(kind))["Main"]):
        assert pod["automountServiceAccountToken"] is False
        assert pod["restartPolicy"] == "Never"
        assert pod["terminationGracePeriodSeconds"] > 12.5 + 10
        resources = pod["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
        assert resources["limits"] == {"cpu": "96", "memory": "512Gi", "huawei.com/Ascend910": "8"}
        terms = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert terms[0]["topologyKey"] == "kubernetes.io/hostname"
        assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host_network", [True, False])
def test_the_hosts_network_and_hccl_if_ip_come_together(kind: str, host_network: bool, job: Any) -> None:
    for pod in pods(documents(kind, job, full(kind, host_network=host_network))["Main"]):
        names = {variable["name"] for variable in pod["containers"][0]["env"]}
        assert pod.get("hostNetwork", False) is host_network
        assert ("HCCL_IF_IP" in names) is host_network


def test_every_kind_of_job_fails_as_a_whole(job: Any) -> None:
    plain = documents("kubernetes", job, full("kubernetes"))["Main"]["spec"]
    assert (plain["completionMode"], plain["completions"], plain["parallelism"]) == ("Indexed", 3, 3)
    assert plain["backoffLimit"] == 0
    assert plain["activeDeadlineSeconds"] == 26 * 3600
    volcano = documents("volcano", job, full("volcano"))["Main"]["spec"]
    assert {"event": "PodFailed", "action": "AbortJob"} in volcano["policies"] and volcano["maxRetry"] == 0
    assert (volcano["minAvailable"], volcano["tasks"][0]["replicas"], volcano["queue"]) == (3, 3, "q")
    ascend = documents("ascendjob", job, full("ascendjob"))["Main"]["spec"]
    assert ascend["runPolicy"]["schedulingPolicy"]["minAvailable"] == 3


def test_the_services_of_a_plain_job_find_pods_that_are_not_ready(job: Any) -> None:
    found = documents("kubernetes", job, full("kubernetes"))
    service, spec = found["Service"], found["Main"]["spec"]["template"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["metadata"]["name"] == spec["spec"]["subdomain"]
    assert service["spec"]["selector"].items() <= spec["metadata"]["labels"].items()


@pytest.mark.parametrize("kind", ["volcano", "ascendjob"])
def test_the_clusters_rank_table_is_where_mindcluster_writes_it(kind: str, job: Any) -> None:
    found = documents(kind, job, full(kind))
    for pod in pods(found["Main"]):
        container = pod["containers"][0]
        assert "rank_table_file=/user/serverid/devindex/config/hccl.json" in container["args"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["ranktable"] == "/user/serverid/devindex/config"
        volume = next(volume for volume in pod["volumes"] if volume["name"] == "ranktable")
        source = {"volcano": {"configMap": {"name": "rings-config-squad"}}, "ascendjob": {"hostPath": {
            "path": "/user/mindx-dl/ranktable/lab.squad", "type": "DirectoryOrCreate"}}}[kind]  # fmt: skip
        assert source.items() <= volume.items()


@pytest.mark.parametrize("nodes", [1, 4])
@pytest.mark.parametrize(
    "framework, label, leader",
    [
        ("", "tensorflow", "Chief"),
        ("torch", "pytorch", "Master"),
        ("mindspore", "mindspore", "Scheduler"),
        ("none", "tensorflow", "Chief"),
    ],
)
def test_an_ascendjob_keeps_to_the_rules_of_its_operator(
    nodes: int, framework: str, label: str, leader: str, tmp_path: Path
) -> None:
    job = read_job("", ["chip=A2", "devices=0-7", f"framework={framework}"], ["true"])
    main = documents("ascendjob", job, full("ascendjob", nodes=nodes))["Main"]
    roles = {leader: 1, **({"Worker": nodes - 1} if nodes > 1 else {})}
    assert main["metadata"]["labels"]["framework"] == label
    assert main["spec"]["runPolicy"]["backoffLimit"] == 1
    assert main["metadata"]["labels"]["ring-controller.atlas"] == "ascend-910b"
    assert {role: spec["replicas"] for role, spec in main["spec"]["replicaSpecs"].items()} == roles
    for spec in main["spec"]["replicaSpecs"].values():
        assert spec["template"]["spec"]["containers"][0]["name"] == "ascend"
        assert spec["template"]["metadata"]["labels"]["ring-controller.atlas"] == "ascend-910b"


@pytest.mark.parametrize("kind", ["kubernetes", "volcano"])
def test_a_job_for_cpus_asks_for_no_npu(kind: str) -> None:
    job = read_job("", ["backend=cpu"], ["true"])
    found = documents(kind, job, Options(image="i", name="a", claim="c"))
    assert "ConfigMap" not in found
    for pod in pods(found["Main"]):
        assert pod["containers"][0]["resources"] == {"requests": {}, "limits": {}}


@pytest.mark.parametrize(
    "kind, changes, words",
    [
        ("kubernetes", {"image": ""}, "--image: missing"),
        ("kubernetes", {"claim": ""}, "--claim: missing"),
        ("kubernetes", {"nodes": 0}, "--nodes: 0"),
        ("kubernetes", {"queue": "q"}, "--queue: a plain Job has none"),
        ("kubernetes", {"rank_table": "configmap"}, "--rank-table: a plain Job has none"),
        ("volcano", {"rank_table": "/x"}, "expected configmap"),
        ("ascendjob", {"rank_table": "configmap"}, "expected a folder"),
        ("ascendjob", {"namespace": ""}, "--namespace: missing (the table's folder is NAMESPACE.NAME)"),
        ("ascendjob", {"resource": "none"}, "an AscendJob without NPUs is refused"),
        ("volcano", {"name": "Squad_2"}, "--name: 'Squad_2'"),
        ("volcano", {"name": "a" * 60}, "--name"),
        ("volcano", {"volume": ("data",)}, "--volume: 'data'"),
        ("volcano", {"volume": ("data:rel",)}, "--volume"),
        ("volcano", {"volume": ("data:/a:rw",)}, "--volume"),
        ("volcano", {"volume": ("data:/dev/shm/",)}, "--volume: /dev/shm/ is taken by another volume"),
        ("volcano", {"memory": "a lot"}, "--memory: 'a lot' (expected a quantity"),
        ("volcano", {"node_selector": ("arm",)}, "--node-selector: 'arm' (expected KEY=VALUE)"),
        ("volcano", {"run_as": "me"}, "--run-as: 'me'"),
        ("volcano", {"time": "soon"}, "--time: 'soon'"),
        ("volcano", {"image": "\udcff"}, "no UTF-8"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(kind: str, changes: dict[str, Any], words: str, job: Any) -> None:
    with pytest.raises(UsageError) as caught:
        kubernetes.render(kind, job, full(kind, **changes))
    assert words in str(caught.value) and len(caught.value.lines) == 1


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["devices=0-7", "env.HCCL_IF_IP=10.0.0.1"], "env.HCCL_IF_IP: one value for all hosts"),
        (["devices=0-7", "env.WANDB_API_KEY=0123456789abcdef"], "env.WANDB_API_KEY: a secret"),
        (["devices=0-7"], "chip: missing"),
        (["chip=A2"], "devices: missing"),
    ],
)
def test_what_the_job_itself_says_can_be_wrong_too(overrides: list[str], words: str) -> None:
    job = read_job("", overrides, ["true"])
    with pytest.raises(UsageError, match=words):
        kubernetes.render("ascendjob", job, Options(image="i", name="a", claim="c"))


@given(st.text())
def test_any_text_is_the_same_in_yaml(text: str) -> None:
    try:
        written = manifest.quoted(text)
    except UsageError:
        assert any("\ud800" <= letter <= "\udfff" for letter in text)
        return
    assert yaml.safe_load(written) == text
    document = f"a:\n  b: {manifest.block(text, 4)}\n---\nc: d\n"
    assert next(yaml.safe_load_all(document)) == {"a": {"b": text}}


@pytest.mark.parametrize(
    "text, seconds",
    [("", 0), ("90", 5400), ("2:30", 150), ("4:00:00", 14400), ("1-2", 93600), ("1-2:03", 93780)],
)
def test_times_are_written_as_for_slurm(text: str, seconds: int) -> None:
    assert options.seconds(text) == seconds


@pytest.mark.parametrize("job, start", [("Squad_v2.0", "squad-v2-0-"), ("2_", "job2-"), ("x" * 80, "x" * 40)])
def test_a_name_fits_the_cluster_whatever_the_job_is_called(job: str, start: str) -> None:
    name = manifest.new_name(job, 20000)
    assert name.startswith(start) and manifest.checked_name(name, 20000) == name
    assert len(name) + len("-worker-20000") <= 63


def test_submit_prints_what_it_would_apply_or_passes_on_what_kubectl_says(tmp_path: Path) -> None:
    words = ["submit", "--engine", "volcano", "--image", "i", "--claim", "c", "--nodes", 2, "backend=cpu"]
    printed = launch(tmp_path, *words, "--dry-run", "--", "true")
    assert printed.returncode == 0, printed.stderr
    assert [item["kind"] for item in yaml.safe_load_all(printed.stdout)] == ["Job"]
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\ncat > "$0.got"; echo "error: no cluster" >&2; exit 1\n')
    kubectl.chmod(0o755)
    refused = launch(tmp_path, *words, "--kubectl", kubectl, "--name", "a", "--", "true")
    assert refused.returncode == 78 and refused.stderr.endswith("kubectl: error: no cluster\n")
    assert "npu-launch/run" in (tmp_path / "kubectl.got").read_text()
    kubectl.write_text("#!/bin/sh\ncat > /dev/null; echo job.batch.volcano.sh/a created\n")
    done = launch(tmp_path, *words, "--kubectl", kubectl, "--name", "a", "--namespace", "lab", "--", "true")
    assert done.returncode == 0 and done.stdout.splitlines()[0] == "job.batch.volcano.sh/a created"
    assert "kubectl -n lab delete vcjob,configmap -l npu-launch/run=a" in done.stdout
    script = """#!/bin/sh
[ "$1" = create ] || { echo "$*" >>"$0.removed"; exit ${KEEP:-0}; }
cat >/dev/null; echo configmap/a created; echo service/a created
echo 'Error from server (AlreadyExists): jobs "a" already exists' >&2; exit 1
"""
    kubectl.write_text(script)
    lost = launch(tmp_path, *words, "--kubectl", kubectl, "--name", "a", "--namespace", "lab", "--", "true")
    assert lost.returncode == 78 and "already exists" in lost.stderr
    assert lost.stderr.endswith("npu-launch: removed again: configmap/a, service/a\n")
    assert (tmp_path / "kubectl.removed").read_text() == "-n lab delete configmap/a service/a\n"
    kept = launch(tmp_path, *words, "--kubectl", kubectl, "--name", "a", "--", "true", env={"KEEP": "1"})
    assert f"still there: configmap/a, service/a; remove: {kubectl} delete configmap/a" in kept.stderr
    missing = launch(tmp_path, *words, "--kubectl", "no-kubectl", "--", "true")
    assert missing.returncode == 127 and "no-kubectl: not found" in missing.stderr
    other = launch(tmp_path, *words, "--nonsense", "--", "true")
    assert other.returncode == 2
