"""Run CANN's set_env.sh once, in a bash without start-up files, and read the environment that it leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Mapping

from launcher.config.job import Provenance

TIMEOUT = 60.0  # seconds; the script runs a few greps and a Python
_OWN = ("_", "SHLVL", "PWD", "OLDPWD", "BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS")  # bash's, not the script's
# $1 is the script: its output goes to stderr, so that stdout holds the environment alone.
_COMMAND = '. "$1" >&2 || exit $?; exec env -0'


def load(
    path: str, environ: Mapping[str, str], launch_dir: str = ".", provenance: Provenance | None = None
) -> tuple[dict[str, str], str]:
    """Return `environ` as the script changes it, and a line that says what was changed.

    Raises:
        ConfigError: there is no such script or no bash, or the script fails; nothing of it is used.
    """
    if not path:
        return dict(environ), ""
    script = os.path.join(launch_dir, os.path.expanduser(path))
    try:
        after = _run(script, environ)
    except _Failure as failure:
        raise (provenance or Provenance()).error("ascend_env", str(failure)) from None
    changed = sorted(name for name in after if after[name] != environ.get(name))
    return after, f"ascend_env: {path} sets {', '.join(changed) or 'nothing'}"


class _Failure(Exception):
    pass


def _run(script: str, environ: Mapping[str, str]) -> dict[str, str]:
    bash = shutil.which("bash")
    if not os.path.isfile(script):
        raise _Failure(f"{script}: no such file (expected the set_env.sh of CANN's toolkit or nnae)")
    if bash is None:
        raise _Failure("bash: not found on PATH, and set_env.sh needs it; install bash")
    before = {name: value for name, value in environ.items() if name not in _OWN and "BASH_FUNC_" not in name}
    command = [bash, "--noprofile", "--norc", "-c", _COMMAND, "bash", script]
    try:
        done = subprocess.run(
            command, env=before, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise _Failure(f"{script}: still running after {TIMEOUT:g} s; run it by hand to see why") from None
    if done.returncode != 0:
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]
        raise _Failure(f"{script}: exit code {done.returncode}: {said}")
    pairs = (item.partition("=") for item in os.fsdecode(done.stdout).split("\0") if item)
    after = {name: value for name, _, value in pairs if name not in _OWN and "BASH_FUNC_" not in name}
    return {**{name: environ[name] for name in environ if name in _OWN}, **after}
