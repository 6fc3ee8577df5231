"""State of the device."""

from npu_simulator import plugin
from npu_simulator.names import has

if has("functions", "npu_bridge.estimator.npu.npu_plugin:is_inf_nan_enabled"):

    def is_inf_nan_enabled() -> bool:
        return plugin.device_sat_mode() == plugin.INF_NAN


def npu_close() -> None:
    """Nothing is left to close."""
