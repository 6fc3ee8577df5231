"""docs/coming-from.md has every option of the frameworks' own launchers."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Callable

import pytest

from tests.coming_from import missing, strange
from tests.frameworks.needs import needs

pytestmark = needs()


def of_parser(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def of_torchrun() -> list[str]:
    return of_parser(import_module("torch.distributed.run").get_args_parser())


def of_accelerate() -> list[str]:
    return of_parser(import_module("accelerate.commands.launch").launch_command_parser())


def of_help(module: str) -> list[str]:
    """Ask in a process of its own, as MindSpore and Paddle cannot be imported into the same one."""
    command = [sys.executable, "-m", module, "--help"]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    heads = re.findall(r"^  (-.*?)(?:  |$)", text, re.MULTILINE)
    return [option for head in heads for option in re.findall(r"(?<![\w-])--?[a-z]\w*", head)]


def of_deepspeed() -> list[str]:
    """Ask deepspeed's runner, whose function gives away no parser."""
    made: list[argparse.ArgumentParser] = []

    class Noted(argparse.ArgumentParser):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS_ACCELERATOR", "cpu")
        runner = import_module("deepspeed.launcher.runner")
        patch.setattr(runner, "argparse", SimpleNamespace(**{**vars(argparse), "ArgumentParser": Noted}))
        runner.parse_args(["train.py"])
    return of_parser(made[0])


def of_msrun() -> list[str]:
    return of_help("mindspore.parallel.cluster.run")


def of_paddle() -> list[str]:
    return of_help("paddle.distributed.launch")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("torchrun", of_torchrun, marks=needs("torch")),
        pytest.param("accelerate launch", of_accelerate, marks=needs("accelerate")),
        pytest.param("deepspeed", of_deepspeed, marks=needs("deepspeed")),
        pytest.param("msrun", of_msrun, marks=needs("mindspore")),
        pytest.param("paddle.distributed.launch", of_paddle, marks=needs("paddle")),
    ],
)
def test_every_option_has_a_row(name: str, options: Callable[[], list[str]]) -> None:
    found = [option for option in options() if option not in ("-h", "--help")]
    assert len(found) > 10
    assert missing(name, found) == []
    assert strange(name, found) == []  # a row of an option that is gone
