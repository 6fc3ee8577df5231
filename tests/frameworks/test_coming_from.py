"""docs/coming-from.md has every option of the frameworks' own launchers."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Callable

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


def while_parsing(parse: Callable[[], object]) -> list[str]:
    """Return the options of a parser that lives inside a function: that which is asked to parse."""
    seen: list[argparse.ArgumentParser] = []

    class Parsed(Exception):
        pass

    def parse_known_args(self: argparse.ArgumentParser, *_: object) -> None:
        seen.append(self)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
        patch.setattr(sys, "argv", ["launch", "train.py"])
        with pytest.raises(Parsed):
            parse()
    return of_parser(seen[0])


def of_msrun() -> list[str]:
    return while_parsing(import_module("mindspore.parallel.cluster.run").get_args)


def of_paddle() -> list[str]:
    return while_parsing(import_module("paddle.distributed.launch.context.args_envs").parse_args)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("torchrun", of_torchrun, marks=needs("torch")),
        pytest.param("accelerate launch", of_accelerate, marks=needs("accelerate")),
        pytest.param("msrun", of_msrun, marks=needs("mindspore")),
        pytest.param("paddle.distributed.launch", of_paddle, marks=needs("paddle")),
    ],
)
def test_every_option_has_a_row(name: str, options: Callable[[], list[str]]) -> None:
    found = [option for option in options() if option not in ("-h", "--help")]
    assert len(found) > 10
    assert missing(name, found) == []
    assert strange(name, found) == []  # a row of an option that is gone
