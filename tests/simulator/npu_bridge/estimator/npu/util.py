"""The loop on the device."""

from npu_simulator.loop import IterationPerLoop, set_iteration_per_loop

__all__ = ["IterationPerLoop", "set_iteration_per_loop"]
