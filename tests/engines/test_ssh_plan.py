"""The plan over hosts with a disk, a name and addresses of their own, reached by ssh."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from tests.engines import ssh_hosts
from tests.launching import ROOT

pytestmark = pytest.mark.engines


class Site:
    """Two hosts, and a folder of which each of them and this machine has a copy of its own."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        self.hosts = ssh_hosts.Hosts(folder, 2, private=[self.work], second=True)
        self.hosts.up()

    def put(self, name: str, text: str, *, on: str) -> None:
        """Write a file on the disk of a host; "" is this machine."""
        disk = self.hosts.folder / on / str(self.work).strip("/").replace("/", "_")
        ((disk if on else self.work) / name).write_text(text)

    def run(self, *words: str) -> tuple[int, str]:
        """Run npu-launch on both hosts."""
        options = ("--engine", "mpi", "--hosts", "node1,node2", "--backend", "cpu", "run_as_root=true")
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *options, *words], cwd=str(self.work),
            env={**self.hosts.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.decode()


@pytest.fixture()
def site() -> Iterator[Site]:
    missing = ssh_hosts.missing()
    if missing:
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="nlp", dir="/var/tmp"))  # /tmp is another on each host
    made = Site(folder)
    try:
        yield made
    finally:
        made.hosts.down()
        shutil.rmtree(str(folder), ignore_errors=True)


def test_what_only_some_hosts_have_is_told_in_one_report_and_then_it_runs(site: Site) -> None:
    for place in ("", "node1", "node2"):
        site.put("train.py", "import os; print(os.environ['RANK_ID'], os.uname().nodename)", on=place)
        site.put("data.json", "{}", on=place)
    site.put("train.py", "print('older')", on="node1")
    (site.hosts.folder / "node2" / str(site.work).strip("/").replace("/", "_") / "data.json").unlink()
    job = ("program=train.py", "file=data.json")
    code, text = site.run(*job)
    lines = [line for line in text.splitlines() if "PYTHONPATH" not in line]
    assert code == 78, text
    script = site.work / "train.py"
    assert lines[0].startswith(f"npu-launch: preflight: program: {script}: its sha256 differs: node1: ")
    assert lines[1].startswith("npu-launch: preflight: arguments: node2: no data.json, which other hosts")
    assert lines[2].endswith("--skip-preflight program --skip-preflight arguments") and len(lines) == 3
    assert not list((site.work / "runs").glob("*")) and not site.hosts.commands("node1")
    for name in ("train.py", "data.json"):
        site.put(name, (site.work / name).read_text(), on="node1")
        site.put(name, (site.work / name).read_text(), on="node2")
    code, text = site.run(*job)
    assert code == 0 and "| 0 node1" in text and "| 1 node2" in text
    assert "PYTHONPATH: set here, but not on node1, node2" in text


def test_hosts_are_reached_in_the_network_that_they_share_and_not_at_a_bridge(site: Site) -> None:
    code, text = site.run("--dry-run", "--", "true")
    assert code == 0, text
    for number, name in enumerate(site.hosts.names):
        row = [str(number), name, name, site.hosts.address(name), str(number)]
        assert row in [line.split() for line in text.splitlines()]
    code, text = site.run("interfaces=[10.255.0.0/16]", "--", "true")
    assert code != 0 and "node1: no address in 10.255.0.0/16; it has " in text
