"""Jobs for Kubernetes: an indexed Job, Volcano's Job or MindCluster's AscendJob, as manifests for kubectl.

The pods come up by themselves and need no rights in the cluster: they meet in the volume of the run folder
(launcher/engines/pull.py). Fields: batch/v1; Volcano config/crd/volcano/bases/batch.volcano.sh_jobs.yaml;
MindCluster component/ascend-operator (build/ascend-operator.yaml, pkg/controllers/v1/ascendjob_validate.go).
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import Any, Iterator

from launcher.errors import NotFoundError, PreflightError, UsageError
from launcher.masking import is_secret
from launcher.plan.devices import parse_devices
from launcher.submit import manifest
from launcher.submit.job import QueuedJob
from launcher.submit.options import option, seconds

KINDS = ("kubernetes", "volcano", "ascendjob")
NPU = "huawei.com/Ascend910"
RUNS = "/npu-launch/runs"  # where the volume of the run folders is
JOB_FILE = "/npu-launch/job/train.yaml"
TABLE = "/user/serverid/devindex/config"  # MindCluster's folder of hccl.json
# Keys for which pods need more than hosts that are there already: images are pulled, disks are far away.
PATIENCE = {"host_timeout": 1800.0, "lease": 30.0}
SETTLING = 45  # seconds that the head may need beside the ranks' grace: to hear of all hosts, to report
# What MindCluster's operator calls a framework and the role of its first host; each other is for it as
# TensorFlow: what it sets for one, the launcher's own variables replace.
FRAMEWORKS = {"torch": ("pytorch", "Master"), "mindspore": ("mindspore", "Scheduler")}
ANY_FRAMEWORK = ("tensorflow", "Chief")
RING = {"910A": "ascend-910", "A2": "ascend-910b", "A3": "ascend-910b"}


@dataclass(frozen=True)
class Options:
    """The options of `npu-launch submit` for Kubernetes."""

    image: str = option("", "image with npu-launch and the program", "IMAGE")
    nodes: int = option(1, "number of hosts", "N")
    name: str = option("", "name of the job in the cluster; default: the job's, with four random digits")
    namespace: str = option("", "Kubernetes namespace; default: kubectl's")
    claim: str = option(
        "",
        "volume of the run folders, which every host mounts: a claim, or a folder of all hosts (/nfs/runs)",
    )
    volume: tuple[str, ...] = option(
        (), "another volume, claim or folder, such as data:/data:ro", "SOURCE:PATH"
    )
    resource: str = option(NPU, "resource that is one NPU; none: ask for no NPU")
    cpus: str = option("", "CPUs of each host, such as 96", "N")
    memory: str = option("", "memory of each host, such as 512Gi")
    shm: str = option("2Gi", "size of /dev/shm")
    time: str = option("", "limit of the run's time: minutes, H:M:S or D-H:M:S")
    host_network: bool = option(False, "use the hosts' network; HCCL then gets HCCL_IF_IP")
    queue: str = option("", "volcano, ascendjob: queue of Volcano")
    priority_class: str = option("", "priority class of the pods")
    node_selector: tuple[str, ...] = option(
        (), "label of the hosts, such as host-arch=huawei-arm", "KEY=VALUE"
    )
    rank_table: str = option(
        "", "the cluster's hccl.json: `configmap` (volcano), or its folder on all hosts (ascendjob)", "WHERE"
    )
    secret: tuple[str, ...] = option((), "secret whose keys become environment variables", "NAME")
    pull_secret: str = option("", "secret of the image registry", "NAME")
    run_as: str = option("", "user and group in the pods, such as 1000:1000", "UID:GID")
    kubectl: str = option("kubectl", "the program that applies the manifest", "PROGRAM")


def settled(kind: str, job: QueuedJob, options: Options) -> Options:
    """Fill in the name of the job in the cluster."""
    return replace(options, name=options.name or manifest.new_name(job.config.job, options.nodes))


def render(kind: str, job: QueuedJob, options: Options) -> str:
    """Write the manifest of a job. UsageError: options that do not fit; one line for each."""
    problems = list(_problems(kind, job, options))
    if problems:
        raise UsageError(*problems)
    return manifest.render(f"kubernetes/{kind}.yaml.j2", _context(kind, job, options))


def submit(kind: str, job: QueuedJob, options: Options, text: str) -> list[str]:
    """Hand a manifest to kubectl; return what it said, and how to go on. PreflightError: it refused."""
    if shutil.which(options.kubectl) is None:
        raise NotFoundError(f"{options.kubectl}: not found; install it, or apply the output of --dry-run")
    done = _kubectl(options, "create", "-f", "-", text=text)
    words = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode:
        said = [f"{options.kubectl}: {line}" for line in words or [f"code {done.returncode}"]]
        raise PreflightError(*said, *_undone(options, done.stdout))
    return [*words, *_follow(kind, options)]


def _kubectl(options: Options, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    argv = [options.kubectl, *words]
    return subprocess.run(
        argv, input=text, capture_output=True, encoding="utf-8", errors="replace", check=False
    )


def _undone(options: Options, said: str) -> list[str]:
    """Remove what was created before something was refused; say so. What others have created stays."""
    made = re.findall(r"^([\w.-]+/[\w.-]+) created$", said, re.MULTILINE)
    if not made:
        return []
    space = ["-n", options.namespace] if options.namespace else []
    done = _kubectl(options, *space, "delete", *made)
    if done.returncode:
        return [
            f"still there: {', '.join(made)}; remove: {' '.join([options.kubectl, *space, 'delete', *made])}"
        ]
    return [f"removed again: {', '.join(made)}"]


def _follow(kind: str, options: Options) -> list[str]:
    """Say how a job is watched and removed."""
    space = f" -n {options.namespace}" if options.namespace else ""
    types = {"kubernetes": "job,service", "volcano": "vcjob", "ascendjob": "acjob"}[kind]
    return [
        f"follow: {options.kubectl}{space} logs -f -l npu-launch/run={options.name} --prefix --tail=-1",
        f"remove: {options.kubectl}{space} delete {types},configmap -l npu-launch/run={options.name}",
    ]


def _problems(kind: str, job: QueuedJob, options: Options) -> Iterator[str]:
    """List what does not fit together."""
    if not options.image:
        yield "--image: missing; give an image with npu-launch and the program"
    if not 1 <= options.nodes <= 20000:
        yield f"--nodes: {options.nodes} (expected 1 to 20000)"
    if not options.claim:
        yield "--claim: missing; give a ReadWriteMany claim, or a folder of all hosts, for the run folder"
    if options.queue and kind == "kubernetes":
        yield "--queue: a plain Job has none (expected --engine volcano or ascendjob); leave it out"
    for name in ("cpus", "memory", "shm"):
        quantity = getattr(options, name)
        if quantity and not manifest.QUANTITY.fullmatch(quantity):
            yield f"--{name}: {quantity!r} (expected a quantity, such as 96 or 512Gi)"
    yield from _table_problems(kind, options)
    yield from _job_problems(kind, job, options)


def _table_problems(kind: str, options: Options) -> Iterator[str]:
    where = options.rank_table
    if where and kind == "kubernetes":
        yield "--rank-table: a plain Job has none (expected --engine volcano or ascendjob); leave it out"
    if where and kind == "volcano" and where != "configmap":
        yield f"--rank-table: {where} (expected configmap, as MindCluster has it for Volcano)"
    if where.startswith("/") and kind == "ascendjob" and not options.namespace:
        yield "--namespace: missing (the table's folder is NAMESPACE.NAME); say it, as kubectl's is not known"
    if where and kind == "ascendjob" and not where.startswith("/"):
        yield f"--rank-table: {where} (expected a folder, such as /user/mindx-dl/ranktable)"


def _job_problems(kind: str, job: QueuedJob, options: Options) -> Iterator[str]:
    config = job.config
    if _npus(job, options) and "devices" not in job.source.written:
        yield "devices: missing (they say how many NPUs each pod gets); add devices=0-7, or backend=cpu"
    if kind == "ascendjob" and not _npus(job, options):
        yield "an AscendJob without NPUs is refused by its operator; give --engine kubernetes or volcano"
    if _npus(job, options) and kind == "ascendjob" and config.chip not in RING:
        yield "chip: missing (AscendJob needs 910A, A2 or A3 for its labels); add chip=A2"
    if "HCCL_IF_IP" in config.env:
        yield "env.HCCL_IF_IP: one value for all hosts; leave it out (--host-network sets it on each)"
    for name in filter(is_secret, config.env):
        yield f"env.{name}: a secret, which all who read the manifest would see; give it by --secret NAME"


def _npus(job: QueuedJob, options: Options) -> int:
    if options.resource == "none" or job.config.backend == "cpu":
        return 0
    return len(parse_devices(job.config.devices))


def _context(kind: str, job: QueuedJob, options: Options) -> dict[str, Any]:
    """Compute the variables of the templates."""
    name = manifest.checked_name(options.name, options.nodes)
    labels = {"app.kubernetes.io/managed-by": "npu-launch", "npu-launch/run": name}
    ring = RING.get(job.config.chip, "")
    if ring and kind != "kubernetes":
        labels["ring-controller.atlas"] = ring
    framework, leader = _framework(job)
    if kind == "ascendjob":
        labels["framework"] = framework
    metadata = {
        "name": name,
        **({"namespace": options.namespace} if options.namespace else {}),
        "labels": labels,
    }
    limit = seconds(options.time)
    user, group = manifest.user(options.run_as)
    roles = [(leader, 1), ("Worker", options.nodes - 1)]
    return {
        "options": options,
        "name": name,
        "labels": labels,
        "metadata": metadata,
        "job_file": job.text,
        "seconds": limit,
        "pod_seconds": limit if kind == "volcano" else 0,
        "grace": math.ceil(job.config.grace) + SETTLING,
        "subdomain": name if kind == "kubernetes" else "",
        "scheduler_name": "" if kind == "kubernetes" else "volcano",
        "selector": manifest.pairs("--node-selector", options.node_selector),
        "user": user,
        "group": group,
        "command": ["npu-launch"],
        "arguments": _arguments(job, options),
        # Not NPU_LAUNCH_RUN_ID: by that the processes of a run are found, and killed when it has ended.
        "variables": [("NPU_LAUNCH_JOB", name), ("NPU_LAUNCH_HOST_COUNT", str(options.nodes))],
        "fields": _fields(kind, options),
        "resources": _resources(job, options),
        "volumes": _volumes(kind, job, options, name),
        "rings": f"rings-config-{name}" if options.rank_table and kind == "volcano" else "",
        "roles": [role for role in roles if role[1]],
    }


def _framework(job: QueuedJob) -> tuple[str, str]:
    """Return the operator's name of the job's framework, and of the role of the first host."""
    from launcher.profiles import choice

    config = choice.settle(job.config, job.source, job.command, os.getcwd()).config
    return FRAMEWORKS.get(config.framework, ANY_FRAMEWORK)


def _arguments(job: QueuedJob, options: Options) -> list[str]:
    """List the words of the command in the pods: the job, with its folders where the volumes are."""
    own = [f"runs_dir={RUNS}"]
    own += [f"{key}={value:g}" for key, value in PATIENCE.items() if key not in job.source.written]
    if options.rank_table:
        own.append(f"rank_table_file={TABLE}/hccl.json")
    command = ["--", *job.command] if job.command else []
    return [*([JOB_FILE] if job.file else []), *job.overrides, *own, *command]


# Which life of a job a pod belongs to, so that it meets no pod of an earlier one. No right in the
# cluster is needed to know it: Kubernetes labels the pods, Volcano annotates them with <job>-<uid>.
_LIVES = {
    "kubernetes": "metadata.labels['batch.kubernetes.io/controller-uid']",
    "volcano": "metadata.annotations['scheduling.k8s.io/group-name']",
    "ascendjob": "metadata.annotations['scheduling.k8s.io/group-name']",
}

# How often MindCluster has rescheduled the whole job, within one life of it.
_TRY = "metadata.labels['version']"


def _fields(kind: str, options: Options) -> list[tuple[str, str]]:
    """List the variables that Kubernetes fills in."""
    fields = [
        ("NPU_LAUNCH_POD", "metadata.name"),
        ("XDL_IP", "status.hostIP"),
        ("POD_IP", "status.podIP"),
        ("NPU_LAUNCH_LIFE", _LIVES[kind]),
        *([("NPU_LAUNCH_TRY", _TRY)] if kind == "ascendjob" else []),
    ]
    return [*fields, *([("HCCL_IF_IP", "status.hostIP")] if options.host_network else [])]


def _resources(job: QueuedJob, options: Options) -> dict[str, str]:
    npus = _npus(job, options)
    wanted = {"cpu": options.cpus, "memory": options.memory, options.resource: str(npus) if npus else ""}
    return {key: value for key, value in wanted.items() if value}


def _volumes(kind: str, job: QueuedJob, options: Options, name: str) -> list[manifest.Volume]:
    """List the volumes: the run folders', the job file, /dev/shm, the rank table's, the user's."""
    found = [
        manifest.volume("runs", f"{options.claim}:{RUNS}"),
        manifest.Volume("shm", "/dev/shm", "emptyDir", {"medium": "Memory", "sizeLimit": options.shm}),  # noqa: S108
    ]
    if job.file:
        found.append(manifest.Volume("job", os.path.dirname(JOB_FILE), "configMap", {"name": name}, True))
    if options.rank_table and kind == "volcano":
        found.append(manifest.Volume("ranktable", TABLE, "configMap", {"name": f"rings-config-{name}"}, True))
    elif options.rank_table:
        folder = f"{options.rank_table.rstrip('/')}/{options.namespace or 'default'}.{name}"
        kept = {"path": folder, "type": "DirectoryOrCreate"}
        found.append(manifest.Volume("ranktable", TABLE, "hostPath", kept, True))
    found += [manifest.volume(f"volume-{number}", text) for number, text in enumerate(options.volume)]
    manifest.refuse_twice(found)
    return found
