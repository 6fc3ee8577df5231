"""README says what is there."""

from __future__ import annotations

import re
from pathlib import Path

from launcher.cli import COMMANDS
from launcher.config.reference import yaml_reference

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_yaml_reference_is_the_dataclass() -> None:
    assert yaml_reference() in TEXT


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_is_named() -> None:
    assert [name for name in COMMANDS if name not in ("run",) and name not in TEXT] == []


def test_every_variable_of_the_contract_is_named() -> None:
    from launcher.plan.environment import of_rank

    env = of_rank(
        {}, rank=0, size=1, local_rank=0, local_size=1, device_id=0, ascend_device_id=0,
        run_dir="/r", run_id="r", backend="cpu", threads=1, launch_dir="/",
    )  # fmt: skip
    assert [name for name in env if name not in TEXT and not name.startswith("PYTHON")] == []
