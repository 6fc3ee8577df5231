"""A head of a few lines for tests of the agent: it starts one over pipes, and says what the test says."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Mapping, Sequence

from launcher.config.job import JobConfig, Provenance
from launcher.hosts.frames import ALL, Decoder, Frame, encode
from launcher.plan.host_facts import HostFacts
from launcher.plan.several import Job, Layout, lay_out, make_order

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 20.0


class ScriptedHead:
    """The head of one host, or of the one with this index."""

    def __init__(self, folder: Path, index: int = 0, environ: Mapping[str, str] | None = None) -> None:
        self.folder, self.index = folder, index
        self.noise: list[bytes] = []
        self.frames: list[Frame] = []
        self.acking = True
        self._bytes = 0
        self._decoder = Decoder(self.noise.append)
        env = dict(os.environ, PYTHONPATH=str(ROOT), **(environ or {}))
        env.update(NPU_LAUNCH_HOST_INDEX=str(index), NPU_LAUNCH_HOST_NAME=f"node{index}")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "agent"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=str(folder), env=env, bufsize=0,
        )  # fmt: skip

    def send(self, kind: str, body: Any = None) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"".join(encode(Frame(ALL, kind, body))))

    def wait(self, kind: str, seconds: float = PATIENCE) -> Any:
        """Return the body of the next frame of this kind; those before it are kept in `frames`."""
        end = time.monotonic() + seconds
        while True:
            for place, frame in enumerate(self.frames):
                if frame.kind == kind:
                    return self.frames.pop(place).body
            assert self._receive(end - time.monotonic()), f"no {kind}; {self.kinds()}"

    def kinds(self) -> list[str]:
        return [frame.kind for frame in self.frames]

    def _receive(self, seconds: float) -> bool:
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], max(0.0, seconds))[0]:
            return False
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        found = self._decoder.feed(data)
        self.frames += found
        new = sum(len(frame.body[1]) for frame in found if frame.kind == "log")
        self._bytes += new
        if new and self.acking:
            self.send("ack", {str(self.index): self._bytes})
        return bool(data)

    def log(self, rank: int) -> bytes:
        """Return what has come of a rank's log, each byte in its place."""
        found = b""
        for frame in self.frames:
            if frame.kind == "log" and frame.body[0][0] == rank:
                assert frame.body[0][3] == len(found)
                found += frame.body[1]
        return found

    def start(self, command: Sequence[str], devices: str = "0-1", **keys: Any) -> Job:
        """Take the agent through its handshake up to the start of its ranks."""
        job, layout = self.order(command, devices, **keys)
        ready = self.wait("ready")
        assert not [row for row in ready["findings"] if row[0] == "error"], ready
        assert layout.table.world_size
        self.send("start", {"attempt": 0})
        return job

    def order(self, command: Sequence[str], devices: str = "0-1", **keys: Any) -> tuple[Job, Layout]:
        facts = HostFacts.from_json(self.wait("hello")["facts"])
        shared = keys.pop("shared", True)
        config = JobConfig(backend="cpu", devices=devices, **{"grace": 5.0, "lease": 30.0, **keys})
        # Tests run beside each other on one machine, where a sweep finds all processes of one id.
        run_id = f"job-{os.urandom(4).hex()}"
        run_dir = self.folder / "runs" / run_id
        job = Job(config, Provenance(), tuple(command), run_id, str(run_dir), str(self.folder))
        layout = lay_out(job, [facts])
        if shared:
            run_dir.mkdir(parents=True, exist_ok=True)
            (run_dir / "rank_table.json").write_text(layout.text)
        self.send("order", make_order(job, layout, {}, [shared], 1 << 20).to_json())
        return job, layout

    def close(self) -> int:
        """Close the way to the agent; return its exit code."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return code
