"""An Atlas server made of folders and fake tools, and a plan for some of its devices."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Sequence

import pytest

from launcher.checks import preflight
from launcher.checks.finding import Finding
from launcher.config.job import JobConfig
from launcher.plan.model import Plan, RankSpec
from rank_table.inventory import Device, Host
from rank_table.render import render
from rank_table.table import RankTable
from tests.rank_table.conftest import FakeHost

ROW = "| %d     910B3               | %s            | 101.8       43                0    / 0             |\n"
BUS = "| 0                         | 0000:C%d:00.0  | 0           0    / 0          3318 / 65536         |\n"
LINE = "+===========================+===============+====================================================+\n"
HEAD = (
    "| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|\n"
    "| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |\n"
    + LINE
)
HOLDER = "| %d       0                 | %d          | python                   | 56485                   |\n"


def smi(health: Sequence[str], holders: Sequence[Any] = ()) -> str:
    """Write what `npu-smi info` prints for devices of this health, held by (device, pid)."""
    rows = "".join(ROW % (n, word) + BUS % n + LINE for n, word in enumerate(health))
    return HEAD + rows + "".join(HOLDER % pair for pair in holders)


class Server:
    """A fake A2 server, and a plan for some of its devices."""

    def __init__(self, host: FakeHost, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.host, self.folder = host, folder
        self.health(["OK"] * 8)
        host.nodes(*range(8))
        monkeypatch.setenv("PATH", "{}{}{}".format(host.bin, os.pathsep, os.environ["PATH"]))
        monkeypatch.setenv("NPU_LAUNCH_LOCK_DIR", str(folder / "locks"))

    def health(self, words: Sequence[str], holders: Sequence[Any] = ()) -> None:
        self.host.tool("npu-smi", {"info": smi(words, holders)})

    def plan(self, devices: Sequence[int] = (0, 1), **env: str) -> Plan:
        inventory = Host("10.0.0.1", tuple(Device(n, n, f"192.168.{n}.2") for n in devices))
        self.table = RankTable.from_hosts([inventory])
        run = str(self.folder / "runs" / "job-1")
        ranks = tuple(
            RankSpec(n, "10.0.0.1", d, d, n, (sys.executable, "-c", ""), dict(env), str(self.folder))
            for n, d in enumerate(devices)
        )
        return Plan("job", "job-1", run, "10.0.0.1", "npu", render(self.table), ranks)

    def check(
        self, plan: Any = None, skip: Sequence[str] = ("ports", "disk"), **config: Any
    ) -> list[Finding]:
        plan = plan or self.plan()
        job = JobConfig(skip_preflight=list(skip), **config)
        return preflight.check(plan, job, self.table, str(self.host.root))


def errors(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.name: str(finding) for finding in findings if finding.level == "error"}
