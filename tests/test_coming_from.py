"""docs/coming-from.md: what it names of npu-launch is there, and it has every option of Open MPI's mpirun.

tests/frameworks/test_coming_from.py holds it against the launchers of the frameworks.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import fields
from shutil import which

import click
import pytest

from launcher.cli import COMMANDS, main
from launcher.config.job import JobConfig
from tests.coming_from import LAUNCHERS, missing, rows, strange

KEYS = {field.name for field in fields(JobConfig)}


def options(name: str) -> set[str]:
    """List the options of a command of npu-launch."""
    command = main.get_command(click.Context(main), name)
    return {"--help", *(option for item in command.params for option in item.opts)}


def unknown(span: str) -> list[str]:
    """List what a code span names that npu-launch does not have."""
    if re.match("[a-z_]+:", span):
        key, _, value = span.partition(":")
        return [] if key in KEYS and (key != "env" or re.match(r" \{[A-Z0-9_]+: .+\}$", value)) else [span]
    words = span.split()
    if words[0] == "--":
        return [] if words[1:] else [span]
    command, known = "run", options("run")
    if words[0] == "npu-launch":
        command = words[1] if words[1] in COMMANDS else ""
        known = options(command) if command else {"--version", "--help"}
        words = words[2 if command else 1 :]
    elif not words[0].startswith("--"):
        return [span]
    return [word for word in words if word.startswith("-") and word not in known]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_row_has_a_counterpart_that_exists_or_says_why_there_is_none(name: str) -> None:
    for theirs, ours, remark in rows(name):
        assert re.fullmatch("(`-[^`]+`(, )?)+", theirs), theirs
        spans = re.findall("`([^`]+)`", ours)
        assert spans or (ours == "-" and remark), theirs
        assert [word for span in spans for word in unknown(span)] == []


@pytest.mark.parametrize("span", ["--device 0", "devises:", "env: NAME", "npu-launch logs --gerp", "run"])
def test_what_npu_launch_does_not_have_is_found(span: str) -> None:
    assert unknown(span)


@pytest.mark.skipif(not which("mpirun"), reason="needs Open MPI (apt-get install openmpi-bin)")
def test_every_option_of_mpirun_has_a_row() -> None:
    env = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    text = subprocess.run(["mpirun", "--help", "full"], env=env, stdout=subprocess.PIPE, text=True).stdout
    if "(Open MPI) 4.1" not in text:
        pytest.skip("the table is that of Open MPI 4.1; this is " + text.partition("\n")[0])
    heads = re.findall(r"^(?: {3})?(-\S+)", text, re.MULTILINE)
    found = [option for head in heads for option in head.split("|")]
    assert len(found) > 100
    assert missing("mpirun", found) == [] == strange("mpirun", found)
