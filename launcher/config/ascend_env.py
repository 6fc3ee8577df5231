"""Run CANN's set_env.sh once, in a bash without start-up files, and read the environment that it leaves.

It is judged by what it sets: a script whose last test is false ends with 1 and has done its work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Mapping

from launcher.config.job import Provenance

TIMEOUT = 60.0  # seconds; the script runs a few greps and a Python
_OWN = ("_", "SHLVL", "PWD", "OLDPWD", "BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS",
        "__script", "__env", "__code")  # fmt: skip  # bash's and those below, not the script's
# $1 is the script, $2 the program env, as the script may change PATH. Descriptor 3 takes the environment
# alone, whatever the script prints or redirects; `exit`, `set -e` and an unset variable end bash before.
_COMMAND = (
    'exec 3>&1 >&2; __script=$1 __env=$2; shift 2; . "$__script"; __code=$?; '
    'printf "%s\\0" "$__code" >&3; exec "$__env" -0 >&3'
)


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
        after, ending = _run(script, environ)
    except _Failure as failure:
        raise (provenance or Provenance()).error("ascend_env", str(failure)) from None
    changed = sorted(name for name in after if after[name] != environ.get(name))
    return after, f"ascend_env: {path} sets {', '.join(changed) or 'nothing'}{ending}"


class _Failure(Exception):
    pass


def _run(script: str, environ: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return the environment that the script leaves, and how it ended, if not with 0."""
    bash, env = shutil.which("bash"), shutil.which("env")
    if not os.path.isfile(script):
        raise _Failure(f"{script}: no such file (expected the set_env.sh of CANN's toolkit or nnae)")
    if bash is None or env is None:
        raise _Failure(f"{'env' if bash else 'bash'}: not found on PATH, and set_env.sh needs it; install it")
    before = {name: value for name, value in environ.items() if _is_kept(name)}
    done = _bash([bash, "--noprofile", "--norc", "-c", _COMMAND, "bash", script, env], before, script)
    code, *items = os.fsdecode(done.stdout).split("\0")
    if done.returncode != 0 or not code.isdigit():
        raise _Failure(f"{script}: exit code {done.returncode}: {_last_line(done)}")
    pairs = (item.partition("=") for item in items if item)
    after = {name: value for name, _, value in pairs if _is_kept(name)}
    ending = ""
    if code != "0":
        _refuse_half(bash, script, before, after, done, code)
        ending = f"; it ended with {code}: {_last_line(done)}"
    return {**{name: environ[name] for name in environ if name in _OWN}, **after}, ending


def _is_kept(name: str) -> bool:
    return name not in _OWN and "BASH_FUNC_" not in name


def _bash(command: list[str], environ: Mapping[str, str], script: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise _Failure(f"{script}: still running after {TIMEOUT:g} s; run it by hand to see why") from None


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1]


def _refuse_half(
    bash: str,
    script: str,
    before: Mapping[str, str],
    after: Mapping[str, str],
    done: subprocess.CompletedProcess[bytes],
    code: str,
) -> None:
    """Refuse a script that did not reach its end for an error of syntax, or that failed and set nothing."""
    parsed = _bash([bash, "-n", script], before, script)
    if parsed.returncode != 0:
        raise _Failure(os.fsdecode(parsed.stderr).strip().partition("\n")[0])  # the line with the reason
    if after == before and not any(name.startswith("ASCEND_") for name in before):
        raise _Failure(f"{script}: exit code {code}: {_last_line(done)}; it sets nothing")
