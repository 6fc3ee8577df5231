"""Run the NPU programs over a real Python package of the adapter, and say what differs from the table.

usage: scripts/check-adapter DIR [--python PYTHON] [--devices 0-1]

DIR is a checkout of the adapter's source (the public repository Ascend/tensorflow, since r1.8.0), or
a folder with an installed npu_bridge or npu_device, such as $TFPLUGIN_INSTALL_PATH. Where the package has no
libraries, stand-ins for what is compiled are used (tests/simulator/npu_simulator). On an Ascend machine
nothing is stood in for, and the table of what only a device can say is printed at the end.

exit status: 0 all passed, 1 something differs or fails, 2 unusable arguments.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from tests.adapter import definitions, device_table, overlay, programs, ranks, table, tiny_job
from tests.adapter.programs import Outcome, Setting
from tests.adapter.ranks import ROOT
from tests.adapter.source import Source, Unreadable

_STAND_INS = "0-1"  # the devices that are stood in for
_PACKAGES = {"1": "npu_bridge", "2": "npu_device"}  # by TensorFlow's major version


class Unusable(Exception):
    """Say in one line why a folder cannot be checked."""


@dataclass(frozen=True)
class Where:
    """What the programs run over: interpreter, its TensorFlow, package, and the ranks' PYTHONPATH."""

    python: str
    version: str
    name: str
    branch: str
    stand_ins: bool
    path: str
    package: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Check a folder; give the exit status."""
    options = _options(argv)
    try:
        return _check(Path(options.folder).resolve(), options.python, options.devices)
    except (Unusable, Unreadable) as error:
        print(f"check-adapter: {error}", file=sys.stderr)
        return 2


def _check(root: Path, given: str, devices: str) -> int:
    """Check a folder; give the exit status. Unusable, Unreadable: it cannot be checked."""
    source = Source(root)
    if os.pathsep in str(root):
        raise Unusable(f"{root}: {os.pathsep} in a path separates folders; give a path without it")
    if not any(source.package(name) for name in _PACKAGES.values()):
        inside = "; give its parent" if root.name in _PACKAGES.values() else ""
        raise Unusable(f"{root}: no npu_bridge or npu_device in it{inside}")
    branch, differing = _check_table(source)
    python, version = _interpreter(given)
    if not version:
        raise Unusable(
            f"{python}: no TensorFlow 1.15 or 2.6 in it; give --python, or `make .venv37/dev.stamp`"
        )
    name = _PACKAGES[version[0]]
    if source.package(name) is None:
        raise Unusable(f"{root}: no {name}, which TensorFlow {version} needs")
    if overlay.stand_ins_needed(source, name) and devices != _STAND_INS:
        raise Unusable(f"--devices {devices}: with stand-ins there are {_STAND_INS} alone")
    with tempfile.TemporaryDirectory(prefix="check-adapter-") as folder:
        where = _where(source, python, version, branch, Path(folder))
        differing += _check_package(where) + _check_definitions(source, where, Path(folder))
        failed = _check_programs(where, Path(folder), devices)
    verdict = "failed" if differing + failed else "passed"
    print(f"{verdict}: {differing} differences, {failed} programs failed")
    return 1 if differing + failed else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="check-adapter", usage=(__doc__ or "").split("\n\n")[1][7:])
    parser.add_argument("folder")
    parser.add_argument("--python", default="")
    parser.add_argument("--devices", default=_STAND_INS)
    return parser.parse_args(argv)


def _check_table(source: Source) -> tuple[str, int]:
    """Hold the table against the source; places that have only moved are counted, not held against it."""
    branch, found = table.closest(source)
    moved = [text for text in found if text.startswith(table.MOVED)]
    changed = [text for text in found if not text.startswith(table.MOVED)]
    print(f"table         closest to {branch}: {len(changed)} names differ, {len(moved)} have moved")
    for text in changed:
        print(f"  differs     {text}")
    return branch, len(changed)


def _interpreter(given: str) -> tuple[str, str]:
    """Choose the ranks' interpreter: (path, version of its TensorFlow; "" where it is none that fits)."""
    ours = ROOT / ".venv37" / "bin" / "python"
    # Absolute, as ranks run elsewhere; not resolved, as a virtual environment is known by its link.
    chosen = os.path.abspath(shutil.which(given) or given) if given else ""
    for python in [chosen] if given else [sys.executable, str(ours)]:
        script = "import tensorflow as tf; print(tf.__version__)"
        environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        try:
            done = subprocess.run(
                [python, "-c", script], env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError:
            continue
        version = done.stdout.decode().strip()
        if version.startswith(("1.15", "2.6")):
            return python, version
    return given or sys.executable, ""


def _where(source: Source, python: str, version: str, branch: str, folder: Path) -> Where:
    name, over = _PACKAGES[version[0]], folder / "python"
    over.mkdir()
    stand_ins = overlay.stand_ins_needed(source, name)
    package = source.package(name) or Path()
    if stand_ins:
        try:
            path = overlay.python_path(source, over, name)
        except FileNotFoundError as error:
            raise Unusable(str(error)) from error
        package = over / name if (over / name).is_dir() else package
        return Where(python, version, name, branch, stand_ins, path, package)
    # Behind the package what CANN's set_env.sh has put there: hccl, te and more.
    outer = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    path = os.pathsep.join((str(ROOT), str(package.parent), *outer))
    return Where(python, version, name, branch, stand_ins, path, package)


def _check_package(where: Where) -> int:
    """Look which package the ranks import: another one on the way would be what is checked."""
    script = f"import {where.name}, os; print('at', os.path.dirname({where.name}.__file__))"
    environ = {**os.environ, "PYTHONPATH": where.path, "NPU_SIMULATOR_ADAPTER": where.branch}
    done = subprocess.run([where.python, "-c", script], env=environ, capture_output=True, text=True)
    places = [line[3:] for line in done.stdout.splitlines() if line.startswith("at ")]
    if places and Path(places[-1]).resolve() == where.package.resolve():
        return 0
    reason = ranks.last_line(done.stderr)
    found = f"is imported from {places[-1]}" if places else f"cannot be imported: {reason}"
    print(f"  differs     {where.name} of {where.package} {found}")
    return 1


def _check_definitions(source: Source, where: Where, folder: Path) -> int:
    """Compile the definitions; hold the table against them, and build our graphs of them."""
    try:
        library = definitions.build(source, where.python, folder)
        count, found = definitions.compare(library, where.python, where.branch)
        print(
            f"definitions   {count} operations compiled for TensorFlow {where.version}: {len(found)} differ"
        )
        for text in found:
            print(f"  differs     {text}")
        graphs = definitions.graphs(library, where.python, where.branch, where.path)
    except definitions.NotCompiled as error:
        print(f"definitions   not compiled, or no graph of them: {error}")
        return 0 if isinstance(error, definitions.NothingToCompile) else 1
    print(f"graphs        {graphs} training graphs built of them")
    return len(found)


def _check_programs(where: Where, folder: Path, devices: str) -> int:
    job = folder / "job"
    job.mkdir()
    tiny_job.make(job)
    what = "stand-ins for what is compiled" if where.stand_ins else "nothing stood in for"
    print(f"programs      over the real {where.name} on TensorFlow {where.version}, {what}", flush=True)
    env = {"PYTHONPATH": where.path, "NPU_SIMULATOR_ADAPTER": where.branch, "NPU_SIMULATOR_REPORT": ""}
    setting = Setting(where.python, env, job, devices, where.stand_ins)
    outcomes = [_told(outcome) for outcome in programs.run_all(setting)]
    failed = sum(bool(outcome.problems) for outcome in outcomes)
    return failed if where.stand_ins else failed + _print_device(setting, outcomes)


def _told(outcome: Outcome) -> Outcome:
    print(f"  {'FAILED' if outcome.problems else 'ok    '}      {outcome.name}"
          f"{': ' if outcome.told else ''}{outcome.told}", flush=True)  # fmt: skip
    for problem in outcome.problems:
        print(f"              {problem}", flush=True)
    return outcome


def _print_device(setting: Setting, outcomes: list[Outcome]) -> int:
    """Print what only the device can say, on one device and without a rank table; count what failed."""
    answers = []
    for program in ("flag.py", "operations.py"):
        folder = setting.job / program
        folder.mkdir()
        alone = {"RANK_TABLE_FILE": "", "RANK_ID": "", "RANK_SIZE": ""}  # on the first device that is seen
        ended = ranks.run(folder, program, 1, {**setting.env, **alone}, python=setting.python, timeout=1800)
        if ended.codes != [0]:
            print(f"  FAILED      {program}: {ranks.last_line(ended.output[0])}")
            return 1
        answers.append(ended.answers())
    for line in device_table.rows(answers[0], answers[1], outcomes, device_table.listed()):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
