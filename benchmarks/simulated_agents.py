"""Measure the head of a run on many hosts: one process plays the agents of all of them, through a pipe.

    python benchmarks/simulated_agents.py HOSTS [--idle SECONDS] [--disk one|own]

Prints the seconds from the call of npu-launch until the ranks may start, the head's memory and processor
time then, its share of a core while 8 ranks on each host train, and the seconds from the failure of a rank
until the order to stop is there, and until the run is reported. Agents of a real run compute their plans at
the same time; the one process here needs a part of the time itself, which is shown too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
EACH = 8
COUNTERS = [1795864414.4, 480, 3840, 1474560, 0.012345, 311.123456, 45.123456, 2.512345]
_NOTHING: dict[str, Any] = {  # an offer of no files
    "checkpoints": [], "predictions": [], "files": [], "metrics": {}, "problems": [], "notes": [],
    "elsewhere": {},
}  # fmt: skip


def names(count: int) -> list[str]:
    return [f"node{number:04d}" for number in range(count)]


class Player:
    """The agents of all hosts."""

    def __init__(self, count: int, folder: Path, idle: float, shared: bool) -> None:
        from launcher.hosts.frames import Decoder

        self.count, self.folder, self.idle, self.shared = count, folder, idle, shared
        self._decoder = Decoder()
        self._beats = b""
        self._plan: Any = None
        self._next_beat = self._fail_at = float("inf")
        self.times: dict[str, float] = {"called": time.time()}

    def run(self) -> None:
        """Answer until the head says that all may go."""
        self._hello()
        while "done" not in self.times:
            due = min(self._next_beat, self._fail_at) - time.monotonic()
            if select.select([0], [], [], min(max(due, 0.0), 1.0))[0]:
                data = os.read(0, 1 << 20)
                if not data:
                    break
                for frame in self._decoder.feed(data):
                    answer = getattr(self, "_" + frame.kind, None)
                    if answer:
                        answer(frame.body)
                    elif frame.kind == "fetch":
                        self._send(frame.host, "offer", _NOTHING)
                        self._send(frame.host, "files_done", {"problems": []})
            self._act(time.monotonic())
        self.times["cpu"] = time.process_time()
        (self.folder / "times.json").write_text(json.dumps(self.times))

    def _act(self, now: float) -> None:
        if now >= self._next_beat:
            self._next_beat = now + 1.0
            self._write(self._beats)
        if now >= self._fail_at:
            self._fail_at = float("inf")
            self._note("failed")
            self._send(
                self.count - 1, "failed", {"end": self._end(self.count * EACH - 1, 9), "victim": False}
            )

    def _note(self, what: str) -> None:
        self.times[what] = time.time()
        (self.folder / what).touch()

    def _send(self, host: int, kind: str, body: Any) -> None:
        self._write(self._encoded(host, kind, body))

    @staticmethod
    def _encoded(host: int, kind: str, body: Any) -> bytes:
        from launcher.hosts.frames import Frame, encode

        return b"".join(encode(Frame(host, kind, body)))

    def _all(self, kind: str, bodies: Sequence[Any]) -> None:
        self._write(b"".join(self._encoded(host, kind, body) for host, body in enumerate(bodies)))

    @staticmethod
    def _write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]

    def _hello(self) -> None:
        from launcher import __version__
        from launcher.checks.host_facts import collect

        self.facts = collect(0, names(1)[0], os.environ)
        bodies = []
        for index, name in enumerate(names(self.count)):
            place = [("eth0", f"10.{index >> 8}.{index & 255}.1/8")]
            own = replace(
                self.facts, index=index, name=name, node=name, boot_id=name, addresses=place, aliases=()
            )
            bodies.append({"version": __version__, "facts": own.to_json()})
        self._all("hello", bodies)

    def _ping(self, body: Any) -> None:
        times = {"n": body["n"], "mono": time.monotonic_ns(), "wall": time.time_ns()}
        self._all("pong", [times] * self.count)

    def _probe(self, body: Any) -> None:
        self._all("probed", [{"seen": self.shared}] * self.count)

    def _order(self, body: Any) -> None:
        """Compute the plan of one host, and send it for each with its own numbers."""
        from launcher.plan.host_plan import host_plan, read_table, to_head
        from launcher.plan.order import Order

        self.times["ordered"] = time.time()
        order = Order.from_json(body)
        environ = dict(os.environ)
        plan = host_plan(order, self.facts, environ, order.table or read_table(order)).plan
        mine = [spec for spec in plan.ranks if spec.server_id == plan.host]
        bodies = []
        for host in order.hosts:
            ranks = []
            for spec in mine:
                rank = host.index * EACH + spec.local_rank
                folder = {"NPU_LAUNCH_RANK_DIR": f"{order.run_dir}/ranks/{rank}", "RANK_ID": str(rank)}
                env = {**spec.env, **folder}
                ranks.append(replace(spec, rank=rank, server_id=host.server_id, env=env))
            own = replace(plan, host=host.server_id, ranks=tuple(ranks))
            bodies.append({"plan": to_head(own), "findings": [], "notes": list(plan.notes), "report": {}})
        self.times["planned"] = time.time()
        self._all("ready", bodies)

    def _start(self, body: Any) -> None:
        self._note("started")
        now = {"time": time.time()}
        for host in range(self.count):
            ranks = range(host * EACH, host * EACH + EACH)
            events = [
                {"event": "started", "rank": rank, "data": {"pid": 1000 + rank}, **now} for rank in ranks
            ]
            self._write(b"".join(self._encoded(host, "event", event) for event in events))
        rows = [
            [
                [host * EACH + local, True, 5, 5, "train", True, 0.1, 0.1, 0.1, 60.0, None, 5000, COUNTERS]
                for local in range(EACH)
            ]
            for host in range(self.count)
        ]
        bodies = [{"behind": 0, "sampled_age": 0.01, "ranks": mine} for mine in rows]
        self._beats = b"".join(self._encoded(host, "beats", body) for host, body in enumerate(bodies))
        self._next_beat = time.monotonic()
        self._fail_at = time.monotonic() + self.idle

    def _stop(self, body: Any) -> None:
        if "stopped" in self.times:
            return
        self._note("stopped")
        self._next_beat = float("inf")
        last = self.count * EACH - 1
        for host in range(self.count):
            ranks = range(host * EACH, host * EACH + EACH)
            ends = [self._end(rank, 9 if rank == last else -15) for rank in ranks]
            teardown = min(end["ended_ns"] for end in ends) - 1 if host < self.count - 1 else self._failed_ns
            self._send(host, "end", {"ends": ends, "teardown_ns": teardown, "interrupted": 0, "seconds": 9.0})
        self._all("sent", [{}] * self.count)

    _failed_ns = 0

    def _end(self, rank: int, code: int) -> dict[str, Any]:
        from launcher.diagnosis.failure import RankEnd, RankStatus

        now = time.monotonic_ns()
        if code > 0:
            now = self._failed_ns = self._failed_ns or now
        status = RankStatus.EXITED if code > 0 else RankStatus.TERMINATED
        return RankEnd(rank, rank % EACH, 1000 + rank, code, 9.0, now, status).to_json()

    def _done(self, body: Any) -> None:
        self._note("done")
        self._all("bye", [{"code": 0}] * self.count)


def head(count: int, folder: Path, idle: float, disk: str) -> None:
    """Be npu-launch, whose engine is the player."""
    from launcher import cli
    from launcher.engines import choose
    from launcher.engines.base import Allocation, Engine
    from launcher.hosts.transport import EngineEnd

    class Played(Engine):
        name = "played"

        def allocation(self) -> Allocation:
            return Allocation(self.name, tuple(names(count)))

        def argv(self, agent: Sequence[str], hosts: Sequence[str]) -> list[str]:
            words = [sys.executable, __file__, str(count), "--as", "player", str(folder)]
            return [*words, "--idle", str(idle), "--disk", disk]

        def stop(self, pid: int) -> None:
            os.kill(pid, 15)

        def explain(self, code: int, words: str) -> EngineEnd:
            return EngineEnd(code, f"played: {words.strip()[-200:]}")

    choose.chosen = lambda config, environ: Played()
    words = ["--devices", f"0-{EACH - 1}", "--backend", "cpu", "--quiet", f"runs_dir={folder / 'runs'}"]
    cli.main([*words, "--", "sh", "-c", "train"])


def measure(count: int, idle: float, disk: str) -> None:
    """Run the head in a process of its own, and print what it needed."""
    with tempfile.TemporaryDirectory(prefix="npu-launch-head-", dir="/var/tmp") as name:
        folder = Path(name)
        begin = time.time()
        output = open(folder / "output", "wb")
        process = subprocess.Popen(
            [sys.executable, __file__, str(count), "--as", "head", name, "--idle", str(idle), "--disk", disk],
            cwd=name, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        cpu = {"started": 0.0, "failed": 0.0}
        memory = 0.0
        for what in cpu:
            while process.poll() is None and not (folder / what).exists():
                time.sleep(0.05)
            if process.poll() is None:
                cpu[what], memory = _cpu(process.pid), _memory(process.pid)
        code = process.wait()
        ended = time.time()
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        if not (folder / "times.json").exists():
            print(f"{count} hosts: exit code {code}\n{(folder / 'output').read_text()[-3000:]}")
            return
        times = json.loads((folder / "times.json").read_text())
        print(
            f"{count:>5} hosts x {EACH}, {disk} disk: start {times['started'] - begin:6.2f} s (agents' part"
            f" {times['planned'] - times['ordered']:5.2f} s, head's CPU {cpu['started']:6.2f} s),"
            f" memory {memory:5.0f} MB, at most {most:5.0f} MB,"
            f" idle {(cpu['failed'] - cpu['started']) / (times['failed'] - times['started']) * 100:5.1f} %,"
            f" failure to stop {times['stopped'] - times['failed']:5.2f} s,"
            f" to the end {ended - times['failed']:5.2f} s, exit code {code}",
            flush=True,
        )


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--idle", type=float, default=10.0)
    parser.add_argument("--disk", choices=("one", "own"), default="one", help="own: the table is sent to all")
    parser.add_argument("--as", dest="part", nargs=2, default=("", ""), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    part, folder = chosen.part
    if part == "head":
        head(chosen.count, Path(folder), chosen.idle, chosen.disk)
    elif part == "player":
        Player(chosen.count, Path(folder), chosen.idle, chosen.disk == "one").run()
    else:
        measure(chosen.count, chosen.idle, chosen.disk)


if __name__ == "__main__":
    main()
