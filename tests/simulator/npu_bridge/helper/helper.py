"""The operations of the adapter's library."""

from __future__ import annotations

from typing import Any

from npu_simulator import loading

version = "v1.15.0"


def get_gen_ops() -> Any:
    return loading.adapter()
