"""Runs over several hosts by a real mpirun and sshd: each host has its network, name and /tmp."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from launcher.hosts.frames import ALL, Frame, TaggedDecoder, encode
from tests.engines import ssh_hosts, training
from tests.engines.slurm_cluster import wait_for
from tests.launching import ROOT, latest

pytestmark = pytest.mark.engines
LEASE = 4  # seconds
SAY = 'echo "rank $RANK_ID of $RANK_SIZE on $(hostname)"'
SLEEP = ("sh", "-c", f"{SAY}; exec sleep 300")
ORDER = ("node2", "node1", "node4", "node3")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give a folder outside /tmp, which each host has for itself."""
    made = Path(tempfile.mkdtemp(prefix="npl", dir="/var/tmp"))
    yield made
    shutil.rmtree(str(made), ignore_errors=True)


@pytest.fixture(scope="module")
def hosts(folder: Path) -> Iterator[ssh_hosts.Hosts]:
    """Give four hosts; `own` in the folder is a disk of its own on each of them."""
    missing = ssh_hosts.missing()
    if missing:
        pytest.skip(missing)
    (folder / "net").mkdir()
    made = ssh_hosts.Hosts(folder / "net", private=[folder / "own"], second=True)
    try:
        made.up()
        yield made
    finally:
        made.down()


class Job:
    """A run over the hosts, in a folder that they share or that each has for itself."""

    def __init__(self, hosts: ssh_hosts.Hosts, cwd: Path) -> None:
        self.hosts, self.cwd = hosts, cwd
        self.process: Any = None

    def start(self, *words: str, names: tuple[str, ...] = ORDER) -> None:
        """Start npu-launch beside the hosts."""
        options = (
            f"hosts=[{','.join(names)}]", f"interfaces=[{self.hosts.network}.0/24]", "run_as_root=true",
            f"lease={LEASE}", "grace=3", "backend=cpu", "host_timeout=40",
        )  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launcher", *options, *words], cwd=str(self.cwd),
            env={**self.hosts.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        )  # fmt: skip

    def end(self, seconds: float = 90) -> tuple[int, str]:
        text = self.process.communicate(timeout=seconds)[0]
        return self.process.returncode, text

    def begun(self, ranks: int) -> None:
        """Wait until every rank has said where it is."""
        wait_for(lambda: len(self.said()) == ranks, 60, f"{ranks} ranks")

    def said(self) -> list[str]:
        with suppress(OSError, IndexError, ValueError):
            paths = sorted((latest(self.cwd) / "logs").glob("rank_*.log"))
            return [path.read_text().split("\n")[0] for path in paths if path.stat().st_size]
        return []

    @property
    def culprit(self) -> Any:
        return json.loads((latest(self.cwd) / "result.json").read_text())["culprit"]

    def gone(self, seconds: float) -> None:
        """Wait until no process but mpirun's daemons is left on any host."""
        wait_for(lambda: not self.left(), seconds, "nothing left")

    def left(self) -> list[str]:
        return [
            text
            for name in self.hosts.names
            for text in self.hosts.commands(name).values()
            if "orted" not in text.split()[0]
        ]

    def kill(self, name: str, words: str) -> None:
        """Kill the processes of a host whose command has these words."""
        for pid, text in self.hosts.commands(name).items():
            if words in text:
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=["shared"])
def job(request: Any, hosts: ssh_hosts.Hosts, folder: Path) -> Iterator[Job]:
    base = folder / ("own" if request.param == "own" else "all")
    base.mkdir(exist_ok=True)
    cwd = Path(tempfile.mkdtemp(dir=str(base)))
    if request.param == "own":
        for name in hosts.names:  # the folder that the user has made on each host
            hosts.disk(name, folder / "own").joinpath(cwd.name).mkdir()
    made = Job(hosts, cwd)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.communicate()
    wait_for(lambda: not made.left(), 30, "nothing left")


@pytest.mark.parametrize("job", ["shared", "own"], indirect=True)
def test_each_host_runs_its_ranks_in_the_order_of_the_hosts(job: Job) -> None:
    job.start("devices=0-1", "--", "sh", "-c", f"{SAY}; echo of $RANK_ID > made")
    code, text = job.end()
    assert code == 0, text
    assert job.said() == [f"rank {rank} of 8 on {ORDER[rank // 2]}" for rank in range(8)]
    found = json.loads((latest(job.cwd) / "hosts.json").read_text())
    assert [host["name"] for host in found] == list(ORDER)
    assert [host["shared"] for host in found] == [job.cwd.parent.name == "all"] * 4
    job.gone(2)


@pytest.mark.parametrize("job", ["shared", "own"], indirect=True)
def test_the_first_failure_ends_all_hosts(job: Job) -> None:
    job.start("devices=0-1", "--", "sh", "-c", f"{SAY}; [ $RANK_ID = 5 ] && exit 7; exec sleep 300")
    code, text = job.end()
    assert code == 7 and "rank 5 (host node4" in text, text
    job.gone(2)


@pytest.mark.parametrize("job", ["own"], indirect=True)
def test_a_restart_starts_agents_again(job: Job) -> None:
    fails = '[ "$RANK_ID" = 3 ] && [ "$NPU_LAUNCH_ATTEMPT" = 0 ] && exit 7'
    job.start("max_restarts=1", "--", "sh", "-c", f"{SAY}; {fails}; exit 0")
    code, text = job.end()
    assert code == 0 and "rank 3" in text, text
    assert (latest(job.cwd) / "logs/rank_3.log").read_text().count("rank 3 of 4 on node3\n") == 2
    job.gone(2)


def test_a_term_ends_all_with_grace(job: Job) -> None:
    job.start("--", *SLEEP)
    job.begun(4)
    job.process.terminate()
    assert job.end()[0] == 143
    job.gone(2)


@pytest.mark.slow
@pytest.mark.parametrize("job", ["own"], indirect=True)
def test_a_training_goes_on_though_a_rank_is_killed_and_each_host_has_its_own_disk(
    job: Job, folder: Path, minilm: Path, tmp_path: Path
) -> None:
    words = training.words(folder / "demo", minilm)
    job.start(*words, "save_checkpoints_steps=10", "max_restarts=1", names=("node1", "node2"))
    wait_for(lambda: job.process.poll() is not None or training.reached(latest(job.cwd), 14), 120)
    job.kill("node2", "squad.run_squad")
    code, text = job.end(300)
    assert code == 0, text
    assert "restart 1 of 1" in text and "rank 1 (host node2" in text and "resuming" in text
    training.assert_equal(training.losses(latest(job.cwd)), training.one_host(tmp_path, words))
    assert list((latest(job.cwd) / "checkpoints").glob(f"*-{training.STEPS}*"))  # it was made on node1
    job.gone(2)


def kill_host(job: Job) -> None:
    """Kill whatever runs on node4, but for what listens for ssh."""
    for pid, text in job.hosts.commands("node4").items():
        if "sshd -D" not in text:
            os.kill(pid, signal.SIGKILL)


KILLS: list[tuple[str, Callable[[Job], None]]] = [
    ("agent", lambda job: job.kill("node4", "__main__.py agent")),
    ("daemon", lambda job: job.kill("node4", "orted")),
    ("cable", lambda job: job.hosts.cut("node4")),
    ("host", kill_host),
]


@pytest.mark.parametrize("what, kill", KILLS, ids=[name for name, _ in KILLS])
def test_a_lost_host_is_named(job: Job, what: str, kill: Callable[[Job], None]) -> None:
    job.start("--", *SLEEP)
    job.begun(4)
    try:
        kill(job)
        code, text = job.end()
        assert code == 69 and "host node4 lost" in text, text
        job.gone(LEASE + 3 + 2)
    finally:
        job.hosts.cut("node4", cut=False)


def test_a_host_that_is_gone_at_a_restart_is_named(job: Job) -> None:
    job.start("max_restarts=1", "--", *SLEEP)
    job.begun(4)
    job.hosts.cut("node4")
    try:
        code, text = job.end()
    finally:
        job.hosts.cut("node4", cut=False)
    assert code == 69 and "host node4 lost" in text, text
    why = text.split("not started again: ")[1].splitlines()[0]
    assert "Connection timed out" in why and why.endswith("(host node4 was lost before)"), text


@pytest.mark.parametrize("what", ["head", "mpirun"])
def test_nothing_outlives_the_head_or_mpirun(job: Job, what: str) -> None:
    job.start("--", *SLEEP)
    job.begun(4)
    pid = job.process.pid
    if what == "mpirun":
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pid = next(int(word) for word in children if Path(f"/proc/{word}/comm").read_text() == "mpirun\n")
    os.kill(pid, signal.SIGKILL)
    code, _ = job.end()
    assert code == (-9 if what == "head" else 69)
    job.gone(LEASE + 2)


def test_an_unreachable_host_is_named(job: Job) -> None:
    job.start("--", "true", names=("node1", "node9"))
    code, text = job.end()
    assert code == 78 and "node9: " in text and "Could not resolve" not in text.split("node9")[0], text
    job.gone(2)


ECHO = """
import os, sys
from launcher.hosts.frames import Decoder, Frame, encode
me, decoder, left = int(os.environ["OMPI_COMM_WORLD_RANK"]), Decoder(), int(sys.argv[1])
while left:
    for frame in decoder.feed(os.read(0, 1 << 18)):
        left -= 1
        data = b"".join(encode(Frame(me, "log", frame.body), 1 << 16))
        while data:
            data = data[os.write(1, data):]
"""


def test_frames_come_through_mpirun_byte_for_byte_both_ways(hosts: ssh_hosts.Hosts) -> None:
    every = bytes(range(256)) * 64
    bodies = [((number, "o"), every + os.urandom(16384)) for number in range(60)]
    data = b"".join(b"".join(encode(Frame(ALL, "log", body), 1 << 16)) for body in bodies)
    done = subprocess.run(
        ["mpirun", "--allow-run-as-root", "--host", ",".join(f"{name}:1" for name in ORDER),
         "--map-by", "seq", "-n", "4", "--stdin", "all", "--tag-output",
         "--mca", "plm_rsh_no_tree_spawn", "1",
         "--mca", "oob_tcp_if_include", f"{hosts.network}.0/24", "-x", "PYTHONPATH",
         sys.executable, "-c", ECHO, str(len(bodies))],
        input=data, stdout=subprocess.PIPE, timeout=90, check=True, cwd=str(ROOT),
        env={**hosts.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    decoder, found = TaggedDecoder(), []
    for begin in range(0, len(done.stdout), 4099):
        found += decoder.feed(done.stdout[begin : begin + 4099])
    for rank in range(4):
        got = [frame.body for frame in found if frame.host == rank]
        assert got == [(list(head), raw) for head, raw in bodies]
