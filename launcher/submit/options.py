"""The options of `npu-launch submit`, declared as the fields of one dataclass for each engine."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any

from launcher.errors import UsageError


def option(default: Any, meaning: str, metavar: str = "") -> Any:
    """Declare a field that is an option: a bool is a flag, a tuple may be given several times."""
    return field(default=default, metadata={"help": meaning, "metavar": metavar})


def seconds(text: str) -> int:
    """Read a time as Slurm writes it: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S; 0 for none."""
    if not text:
        return 0
    match = re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,6})(?::(\d{1,3}))?(?::(\d{1,3}))?", text)
    if not match:
        raise UsageError(f"--time: {text!r} (expected minutes, H:M:S or D-H:M:S)")
    days, *numbers = (int(part) if part else None for part in match.groups())
    first, second, third = numbers
    if days is None and third is None:  # M or M:S
        return (first or 0) * 60 + (second or 0)
    return (days or 0) * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0)
