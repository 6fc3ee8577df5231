"""The operations of npu_device's library."""

from __future__ import annotations

from typing import Any

from npu_device.npu_device import gen_npu_ops

version = "v2.6.2"


def get_gen_ops() -> Any:
    return gen_npu_ops
