"""Put a real Python package of the adapter over the stand-ins for what it has compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.adapter.ranks import ROOT, SIMULATOR
from tests.adapter.source import Source

# Run by Python before any program: when the package is first imported, its compiled parts are stood in for.
_HOOK = """\
import sys


class _Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("npu_bridge", "npu_device"):
            sys.meta_path.remove(self)
            from npu_simulator import loading

            loading.stand_in(name)


sys.meta_path.insert(0, _Finder())
"""


def python_path(source: Source, folder: Path, name: str) -> str:
    """Make FOLDER such that a program with this PYTHONPATH has the real package `name`, and the stand-ins.

    Raises:
        FileNotFoundError: the source has no such package.
    """
    (folder / "sitecustomize.py").write_text(_HOOK)
    package = source.package(name)
    if package is None:
        raise FileNotFoundError(f"{source.root}: no package {name} in it")
    if name == "npu_device" and not (package / "compat" / "v1").is_dir():
        package = _built_device(source, folder, package)
    # The simulator's own npu_bridge and npu_device lie in the last folder, behind the real ones.
    return os.pathsep.join(map(str, (ROOT, folder, package.parent, SIMULATOR)))


def stand_ins_needed(source: Source, name: str) -> bool:
    """Whether a package comes without its libraries, as in a checkout of the source."""
    package = source.package(name)
    libraries: list[Path] = [] if package is None else list(package.glob("_*.so"))
    return not libraries


def _built_device(source: Source, folder: Path, package: Path) -> Path:
    """Copy npu_device, and npu_bridge into its compat/v1, as the adapter's build does with its own script."""
    built, bridge = folder / "npu_device", source.package("npu_bridge")
    script = source.root / "tf_adapter_2.x" / "compat_v1" / "upgrade_tf1_compat_tf2.py"
    if bridge is None or not script.is_file():
        raise FileNotFoundError(f"{script}: not there, so npu_device.compat.v1 cannot be made")
    shutil.copytree(str(package), str(built))
    shutil.copytree(str(bridge), str(built / "compat" / "v1"))
    subprocess.run(
        [sys.executable, str(script), str(built / "compat" / "v1")], check=True, stdout=subprocess.DEVNULL
    )
    return built
