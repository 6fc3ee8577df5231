"""An engine of plain pipes: N real agents on this host, and a command line that runs a job on them.

As an engine's program (`pipes.py relay FOLDER NAME... -- AGENT`) it copies its standard input to every agent
and passes their lines on; FOLDER/HOST gets each agent's pid. As a launcher (`pipes.py run NAME,NAME WORDS`)
it is npu-launch with this engine.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Mapping, Sequence

from launcher.engines.base import Allocation, Engine
from launcher.hosts.transport import EngineEnd

CHUNK = 1 << 16


class Pipes(Engine):
    """N agents behind one process, as behind srun."""

    name = "pipes"

    def __init__(self, hosts: Sequence[str], folder: Path) -> None:
        self._hosts, self._folder = tuple(hosts), folder

    def allocation(self) -> Allocation:
        return Allocation(self.name, self._hosts)

    def argv(self, agent: Sequence[str], hosts: Sequence[str]) -> list[str]:
        me = str(Path(__file__).resolve())
        return [sys.executable, me, "relay", str(self._folder), *hosts, "--", *agent]

    def environ(self, outer: Mapping[str, str]) -> dict[str, str]:
        root = str(Path(__file__).resolve().parents[3])
        return {**outer, "PYTHONPATH": root}

    def stop(self, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)

    def explain(self, code: int, words: str) -> EngineEnd:
        said = words.strip().split("\n")[-1]
        return EngineEnd(code, f"pipes ended with exit code {code}" + (f": {said}" if said else ""))


def relay(folder: Path, hosts: Sequence[str], agent: Sequence[str]) -> int:
    """Be the engine's program; return the highest exit code of the agents."""
    agents = [_start(folder, agent, index, name, len(hosts)) for index, name in enumerate(hosts)]
    signal.signal(signal.SIGTERM, lambda number, frame: [child.terminate() for child in agents])
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    rests = dict.fromkeys(agents, b"")
    for child in agents:
        assert child.stdout
        selector.register(child.stdout, selectors.EVENT_READ, child)
    while rests:
        for key, _ in selector.select():
            data = os.read(key.fd, CHUNK)
            if key.data is None:
                _copy(data, agents)
                if not data:
                    selector.unregister(0)
                continue
            lines, cut, rests[key.data] = (rests[key.data] + data).rpartition(b"\n")
            os.write(1, lines + cut)
            if not data:
                selector.unregister(key.fd)
                del rests[key.data]
    return max(code if code >= 0 else 128 - code for code in (child.wait() for child in agents))


def _start(folder: Path, agent: Sequence[str], index: int, name: str, count: int) -> subprocess.Popen[bytes]:
    variables = {"INDEX": str(index), "NAME": name, "COUNT": str(count)}
    environ = {**os.environ, **{f"NPU_LAUNCH_HOST_{key}": value for key, value in variables.items()}}
    private = os.environ.get("PIPES_PRIVATE")  # a folder that every host has for itself (needs root)
    if private:
        disk = folder / f"disk-{name}"
        disk.mkdir(exist_ok=True)
        mount = 'mount --bind "$1" "$0" && shift && cd "$0" && exec "$@"'
        agent = ["unshare", "--mount", "sh", "-c", mount, private, str(disk), *agent]
    child = subprocess.Popen(
        list(agent), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, bufsize=0
    )
    (folder / name).write_text(str(child.pid))
    return child


def _copy(data: bytes, agents: Sequence[subprocess.Popen[bytes]]) -> None:
    for child in agents:
        assert child.stdin
        with suppress(OSError):
            child.stdin.write(data)
            if not data:
                child.stdin.close()


def run(hosts: Sequence[str], words: Sequence[str]) -> None:
    """Be npu-launch with this engine."""
    from launcher import cli
    from launcher.engines import choose

    folder = Path(os.environ.get("PIPES_FOLDER") or tempfile.mkdtemp(prefix="pipes."))
    setattr(choose, "chosen", lambda config, environ: Pipes(hosts, folder))  # noqa: B010
    cli.main(list(words))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    if sys.argv[1] == "relay":
        cut = sys.argv.index("--")
        sys.exit(relay(Path(sys.argv[2]), sys.argv[3:cut], sys.argv[cut + 1 :]))
    run(sys.argv[2].split(","), sys.argv[3:])
