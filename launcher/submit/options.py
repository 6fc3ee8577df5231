"""The options of `npu-launch submit`, declared as the fields of one dataclass for each engine."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def option(default: Any, meaning: str, metavar: str = "") -> Any:
    """Declare a field that is an option: a bool is a flag, a tuple may be given several times."""
    return field(default=default, metadata={"help": meaning, "metavar": metavar})
