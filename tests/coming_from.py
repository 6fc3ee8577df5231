"""The tables of docs/coming-from.md, for tests against npu-launch and against the launchers."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Iterable

from tests import markdown
from tests.markdown import ROOT

LAUNCHERS = ("torchrun", "msrun", "paddle.distributed.launch", "accelerate launch", "deepspeed", "mpirun")
TEXT = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")


def rows(launcher: str) -> list[list[str]]:
    """List a launcher's table: option, ours, remark."""
    section = re.search(rf"^## {re.escape(launcher)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert section, launcher
    [table] = markdown.tables(section.group(1))
    assert table[0] == ["option", "ours", "remark"]
    return table[2:]


def missing(launcher: str, options: Iterable[str]) -> list[str]:
    """List the options of a launcher that have no row; `--a-b` is `--a_b`, and `--a_*` all that begin so."""
    named = [even(span) for row in rows(launcher) for span in re.findall(r"`([^`]+)`", row[0])]
    return [option for option in options if not any(fnmatchcase(even(option), name) for name in named)]


def strange(launcher: str, options: Iterable[str]) -> list[str]:
    """List the rows' options that the launcher does not have."""
    known = [even(option) for option in options]
    named = [even(span) for row in rows(launcher) for span in re.findall(r"`([^`]+)`", row[0])]
    return [name for name in named if not any(fnmatchcase(option, name) for option in known)]


def even(option: str) -> str:
    return option.replace("_", "-")
