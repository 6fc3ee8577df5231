"""The generated operations; NPU_SIMULATOR_CANN=5 gives those of CANN 5."""

from __future__ import annotations

import os
from typing import Any

from npu_simulator import ops


def get_gen_ops() -> Any:
    return ops.FloatStatus(old=os.environ.get("NPU_SIMULATOR_CANN") == "5")
