"""Time runs on four hosts through Slurm and Open MPI, beside their own srun and mpirun, and beside torchrun.

    python benchmarks/hosts.py [--torchrun PATH] [--engine slurm,mpi] [--only start,failure,logs] [--rounds 3]
    python benchmarks/hosts.py --only head [--hosts 64,256,1024,2048]

The four hosts are virtual: four slurmd on this machine, or four orted under a fake remote shell. Ranks are
`sh`; 8 on each host. The peers take turns, and the best round counts. `head` has no engine: one process plays
the agents of all hosts through a pipe (benchmarks/simulated_agents.py), so that only the head's cost is seen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
HOSTS, EACH, FAILING = 4, 8, 24
RANKS = HOSTS * EACH
MEGABYTES = 16  # that each rank writes: lines as a training logs them, with figures that differ
FAKE_RSH = """#!/bin/bash
while [[ "$1" == -* ]]; do shift; done
export TMPDIR={folder}/$1; mkdir -p $TMPDIR; shift
exec /bin/sh -c "$*"
"""
# What the ranks run, as scripts in the folder. Each leaves its process id, so that its end can be seen.
_RANK = "rank=${RANK_ID:-${RANK:-${OMPI_COMM_WORLD_RANK:-$SLURM_PROCID}}}; cd {folder}\n"
_SCRIPTS = {
    "nothing": ": > started/$rank",
    "fail": """
if [ $rank = {failing} ]; then
    while [ $(ls pids | wc -l) -lt {others} ]; do sleep 0.1; done
    sleep 0.5; date +%s.%N > draft; mv draft failed; exit 9
fi
echo $$ > pids/$rank; exec sleep 60""",
    "write": "exec awk '{ print; fflush() }' lines lines lines lines",
}


class Site:
    """An engine of four hosts, and the command lines of the peers in it."""

    def __init__(
        self,
        name: str,
        environ: Mapping[str, str],
        bare: Sequence[str],
        one_each: Sequence[str],
        options: Sequence[str] = (),
    ) -> None:
        self.name, self.environ, self.options = name, dict(environ), list(options)
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages are compiled
        self._bare, self._one_each = list(bare), list(one_each)

    def lines(self, folder: Path, script: str, torchrun: str = "") -> dict[str, list[str]]:
        """Build the command of each peer for ranks that run a script."""
        rank = ["sh", str(folder / script)]
        ours = [sys.executable, "-m", "launcher", "--devices", f"0-{EACH - 1}", "--backend", "cpu", "--quiet"]
        lines = {
            "npu-launch": [*ours, f"runs_dir={folder / 'runs'}", *self.options, "--", *rank],
            f"bare {self._bare[0]}": [*self._bare, *rank],
        }
        if torchrun:
            (folder / "node").write_text(
                f"exec {torchrun} --nnodes {HOSTS} --nproc-per-node {EACH} --master-addr 127.0.0.1"
                " --master-port 29611 --node-rank ${OMPI_COMM_WORLD_RANK:-$SLURM_NODEID} --no-python"
                f" {' '.join(rank)}"
            )
            lines["torchrun"] = [*self._one_each, "sh", str(folder / "node")]
        return lines


def write_scripts(folder: Path) -> None:
    """Write what the ranks run."""
    (folder / "pids").mkdir()
    (folder / "started").mkdir()
    values = {"failing": FAILING, "others": RANKS - 1, "folder": folder}
    for name, text in _SCRIPTS.items():
        text = _RANK + text
        for key, value in values.items():
            text = text.replace("{" + key + "}", str(value))
        (folder / name).write_text(text + "\n")
    (folder / "lines").write_text("".join(_lines())[: MEGABYTES << 18])


def _lines() -> Iterator[str]:
    """Yield a quarter of what a rank writes."""
    random = Random(1)
    for step in range(MEGABYTES << 12):
        yield (
            f"2026-11-28 20:{step % 60:02d}:{step * 7 % 60:02d}.{random.randrange(1000):03d} INFO step"
            f" {step}/100000 loss {random.random():.4f} lr {random.random() / 1e5:.3g}"
            f" {random.random() * 300:.1f} examples/s\n"
        )


def missing(engine: str) -> str:
    """Say what to install for an engine; "" when it is there."""
    from tests.engines import slurm_cluster

    if engine == "slurm":
        return slurm_cluster.missing()
    absent = shutil.which("mpirun") is None
    return "mpirun not found: apt-get install -y --no-install-recommends openmpi-bin" if absent else ""


@contextmanager
def slurm(folder: Path) -> Iterator[Site]:
    """Start a Slurm of four nodes and allocate them."""
    from tests.engines.slurm_cluster import Cluster

    cluster = Cluster(folder)
    cluster.up()
    try:
        words = ["salloc", "-N", str(HOSTS), f"--ntasks-per-node={EACH}", "--no-shell", "-J", "figures"]
        subprocess.run(words, env=cluster.environ, check=True, stderr=subprocess.DEVNULL)
        job = cluster.call("squeue", "-h", "-o", "%i").split()[0]
        inside = {
            "SLURM_JOB_ID": job, "SLURM_JOBID": job, "SLURM_JOB_NODELIST": "node[1-4]",
            "SLURM_JOB_NUM_NODES": "4", "SLURM_NODELIST": "node[1-4]", "SLURM_NNODES": "4",
        }  # fmt: skip
        each = ["srun", "-N", str(HOSTS), "--overlap"]
        bare = [*each, "-n", str(RANKS), "--kill-on-bad-exit=1"]
        yield Site("slurm", {**cluster.environ, **inside}, bare, [*each, "--ntasks-per-node=1"])
    finally:
        cluster.down()


@contextmanager
def mpi(folder: Path) -> Iterator[Site]:
    """Write a host file and a remote shell that runs everything here."""
    shell = folder / "fakersh"
    shell.write_text(FAKE_RSH.format(folder=folder))
    shell.chmod(0o755)
    names = [f"host{number}" for number in range(1, HOSTS + 1)]
    (folder / "hosts").write_text("".join(f"{name} slots={EACH}\n" for name in names))
    environ = {
        **os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_plm_rsh_agent": str(shell), "OMPI_MCA_plm_rsh_no_tree_spawn": "1", "PYTHONPATH": str(ROOT),
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }  # fmt: skip
    run = ["mpirun", "--hostfile", str(folder / "hosts"), "--map-by"]
    bare, one_each = [f"ppr:{EACH}:node", "-n", str(RANKS)], ["ppr:1:node", "-n", str(HOSTS)]
    options = ["engine=mpi", f"hostfile={folder / 'hosts'}", "run_as_root=true"]
    yield Site("mpi", environ, [*run, *bare], [*run, *one_each], options)


def seconds(line: Sequence[str], site: Site, folder: Path, output: str = os.devnull) -> float:
    """Run a command; return the seconds from its start to its end."""
    begin = time.perf_counter()
    with open(output, "wb") as out, open(folder / "errors", "wb") as errors:
        code = subprocess.run(
            line, cwd=str(folder), env=site.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=errors
        ).returncode
    if code:
        text = (folder / "errors").read_text(errors="replace")
        print(f"  exit code {code}: {' '.join(line)[:100]}\n{text[-600:]}", flush=True)
    return time.perf_counter() - begin


def show(what: str, figures: Mapping[str, float], unit: str) -> None:
    print(
        f"{what:<44} " + "   ".join(f"{name} {value:.2f} {unit}" for name, value in figures.items()),
        flush=True,
    )


def bench_start(site: Site, folder: Path, torchrun: str, rounds: int) -> None:
    """Measure 32 ranks that do nothing: until the last has started, and until the command has ended."""
    started: dict[str, float] = {}
    ended: dict[str, float] = {}
    seconds(site.lines(folder, "nothing")["npu-launch"], site, folder)  # compiles
    for _ in range(rounds):
        for name, line in site.lines(folder, "nothing", torchrun).items():
            for path in (folder / "started").iterdir():
                path.unlink()
            begin = time.time()
            ended[name] = min(ended.get(name, 1e9), seconds(line, site, folder))
            last = max(path.stat().st_mtime for path in (folder / "started").iterdir())
            started[name] = min(started.get(name, 1e9), last - begin)
    show(f"{site.name}: 4 hosts x 8 trivial ranks, last started", started, "s")
    show(f"{site.name}: ... until the command has ended", ended, "s")


def bench_failure(site: Site, folder: Path, torchrun: str, rounds: int) -> None:
    """Measure from the first failure, of a rank on the last host, until none of the 32 is left."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, line in site.lines(folder, "fail", torchrun).items():
            best[name] = min(best.get(name, 1e9), _gone_after(line, site, folder))
    show(f"{site.name}: first failure to all 32 gone", best, "s")


def _gone_after(line: Sequence[str], site: Site, folder: Path) -> float:
    shutil.rmtree(str(folder / "pids"), ignore_errors=True)
    (folder / "pids").mkdir()
    with suppress(FileNotFoundError):
        (folder / "failed").unlink()
    with open(folder / "errors", "wb") as errors:
        process = subprocess.Popen(
            line, cwd=str(folder), env=site.environ, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
        )
    while process.poll() is None and not (folder / "failed").exists():
        time.sleep(0.01)
    if process.poll() is not None:
        print((folder / "errors").read_text(errors="replace")[-600:], flush=True)
        return float("inf")
    time.sleep(0.05)
    failed = float((folder / "failed").read_text())
    left = [int(path.read_text()) for path in (folder / "pids").iterdir()]
    while left:
        left = [pid for pid in left if _lives(pid)]
        time.sleep(0.005)
    gone = time.time() - failed
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.terminate()  # torchrun's agents wait for each other five minutes more
    process.wait()
    return gone


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def bench_logs(site: Site, folder: Path, torchrun: str, rounds: int) -> None:
    """Measure the MB/s of 32 ranks that write as fast as they can, from start to end of the command."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, line in site.lines(folder, "write").items():
            shutil.rmtree(str(folder / "runs"), ignore_errors=True)
            took = seconds(line, site, folder, str(folder / "output"))
            arrived = _arrived(folder) if name == "npu-launch" else (folder / "output").stat().st_size
            if arrived < RANKS * MEGABYTES << 20:
                print(f"  {name}: only {arrived} bytes of {RANKS * MEGABYTES << 20} arrived", flush=True)
            best[name] = max(best.get(name, 0.0), arrived / took / 1e6)
    (folder / "output").unlink()
    show(f"{site.name}: logs of 32 ranks, {MEGABYTES} MB each", best, "MB/s")


def _arrived(folder: Path) -> int:
    """Count the bytes of the merged logs."""
    return sum(path.stat().st_size for path in (folder / "runs" / "latest" / "logs").glob("rank_*.log"))


def bench_head(counts: Sequence[int]) -> None:
    """Measure the head alone."""
    for count in counts:
        subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / "simulated_agents.py"), str(count)], check=False
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torchrun", default=str(ROOT / "build" / "torch" / "bin" / "torchrun"))
    parser.add_argument("--engine", default="slurm,mpi")
    parser.add_argument("--only", default="start,failure,logs,head")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hosts", default="64,256,1024,2048")
    chosen = parser.parse_args()
    torchrun = chosen.torchrun if os.path.exists(chosen.torchrun) else ""
    benches = {"start": bench_start, "failure": bench_failure, "logs": bench_logs}
    wanted = [benches[name] for name in chosen.only.split(",") if name in benches]
    for engine in chosen.engine.split(",") if wanted else ():
        if missing(engine):
            print(f"{engine}: left out: {missing(engine)}")
            continue
        with tempfile.TemporaryDirectory(prefix="npu-launch-hosts-", dir="/var/tmp") as name:
            write_scripts(Path(name))
            os.environ["PYTHONPYCACHEPREFIX"] = str(Path(name) / "compiled")
            with {"slurm": slurm, "mpi": mpi}[engine](Path(name)) as site:
                for bench in wanted:
                    bench(site, Path(name), torchrun, chosen.rounds)
    if "head" in chosen.only.split(","):
        bench_head([int(count) for count in chosen.hosts.split(",")])


if __name__ == "__main__":
    main()
