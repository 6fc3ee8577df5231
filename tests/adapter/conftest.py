"""The fixture that starts programs on the simulator, from its own room."""

from tests.npu.conftest import run_ranks

__all__ = ["run_ranks"]
