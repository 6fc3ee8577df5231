"""What must be the same on every host, as each finds it: interpreter, program, files, variables."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from typing import Any, Iterator, Mapping

from launcher.checks import packages
from launcher.config.job import JobConfig
from launcher.plan.command import WORKER
from launcher.plan.layers import plain
from launcher.plan.model import RankSpec
from launcher.plan.planner import PlannedJob

PROBE_TIMEOUT = 20.0  # seconds; an interpreter on a network disk may start slowly
_SCRIPTS = (".py", ".sh")
MOST_HASHED = 4 << 20  # bytes of a script
_NOTHING = {"python": "", "tensorflow": "", "program": "", "problem": ""}
# Run by the ranks' interpreter: its version, packages' by the names of their folders, the program's package.
_PROBE = """
import glob, hashlib, importlib.util, json, os, sys
name, names = sys.argv[1], sys.argv[2].split(",")
found = {"python": ".".join(map(str, sys.version_info[:3])), "program": ""}
for place in sys.path:
    for path in glob.glob(os.path.join(glob.escape(place or "."), "*-info")):
        package, _, version = os.path.splitext(os.path.basename(path))[0].partition("-")
        if package.lower().replace("-", "_") in names:
            found.setdefault(package.lower().replace("-", "_"), version.split("-")[0])
spec = importlib.util.find_spec(name.split(".")[0]) if name else None
if spec is not None:
    digest = hashlib.sha256()
    roots = list(spec.submodule_search_locations or [])
    paths = [os.path.join(f, n) for r in roots for f, _, ns in os.walk(r) for n in ns if n.endswith(".py")]
    for path in sorted(paths)[:5000] if roots else [spec.origin]:
        with open(path, "rb") as stream:
            digest.update((os.path.relpath(path, roots[0]) if roots else "").encode() + stream.read())
    found["program"] = digest.hexdigest()
print(json.dumps(found))
"""


def report(planned: PlannedJob) -> dict[str, Any]:
    """Describe this host's side of a plan, as `hosts.compare` takes it."""
    spec = planned.plan.ranks[0]
    found: dict[str, Any] = dict(_NOTHING)
    if WORKER in spec.argv:
        found = _probed(spec)
    found["scripts"] = dict(_scripts(spec))
    found["files"] = _files(planned.config, spec)
    found["hccl"] = {name: text for name, text in plain(spec.env).items() if name.startswith("HCCL_")}
    return found


def _probed(spec: RankSpec) -> dict[str, Any]:
    """Ask the ranks' interpreter; `problem` says why it does not answer."""
    framework = packages.OF.get(spec.env.get("NPU_LAUNCH_FRAMEWORK", ""), packages.NOTHING).every
    asked = framework or packages.TENSORFLOW.every
    words = spec.argv[spec.argv.index(WORKER) + 1 :]
    module = words[1] if words[:1] == ("-m",) and len(words) > 1 else ""
    command = [spec.argv[0], "-c", _PROBE, module, ",".join(asked)]
    try:
        done = subprocess.run(
            command, env=plain(spec.env), cwd=spec.env.get("NPU_LAUNCH_CWD") or None, timeout=PROBE_TIMEOUT,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        answer = json.loads(done.stdout.decode() or "null")
        if isinstance(answer, dict):
            answer["tensorflow"] = packages.TENSORFLOW.version(answer)
            return {name: str(answer.get(name, "")) for name in (*_NOTHING, *framework)}
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        return {**_NOTHING, "problem": f"{spec.argv[0]}: {said[-1]:.200}"}
    except subprocess.TimeoutExpired:
        return {**_NOTHING, "problem": f"{spec.argv[0]}: no answer within {PROBE_TIMEOUT:g} s"}
    except (OSError, ValueError) as error:
        return {**_NOTHING, "problem": f"{spec.argv[0]}: {error}"}


def _scripts(spec: RankSpec) -> Iterator[tuple[str, str]]:
    """Yield the scripts in a command line, with the sha256 of each."""
    launch_dir = spec.env.get("NPU_LAUNCH_CWD", "")
    for word in spec.argv:
        path = os.path.join(launch_dir, word)
        if word != WORKER and word.endswith(_SCRIPTS) and os.path.isfile(path):
            with open(path, "rb") as stream:
                yield word, hashlib.sha256(stream.read(MOST_HASHED)).hexdigest()


def _files(config: JobConfig, spec: RankSpec) -> dict[str, str]:
    """Return the words of the command that are files or folders here: "folder", or the size of the file."""
    found: dict[str, str] = {}
    for word in _words(config, spec):
        path = os.path.join(spec.env.get("NPU_LAUNCH_CWD", ""), os.path.expanduser(word))
        if os.path.isdir(path):
            found[word] = "folder"
        elif os.path.isfile(path):
            found[word] = f"{os.path.getsize(path)} bytes"
    return found


def _words(config: JobConfig, spec: RankSpec) -> Iterator[str]:
    """Yield what may be a path: values of args, and words of a command after its program."""
    for value in config.args.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and item:
                yield item
    for word in spec.argv[1:]:
        option, equals, value = word.partition("=")
        if word not in (WORKER, "-u", "-m") and not word.endswith(_SCRIPTS):  # whose sha256 is compared
            yield value if equals and option.startswith("-") and value else word


def hccl_variables(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return each HCCL variable by host, "" where it is not set."""
    names = sorted({name for found in reports.values() for name in found["hccl"]})
    return {
        name: {host: str(found["hccl"].get(name, "")) for host, found in reports.items()} for name in names
    }
