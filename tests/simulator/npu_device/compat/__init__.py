"""The way back to sessions."""

from npu_device.compat import v1


def enable_v1() -> None:
    """Let sessions with the NpuOptimizer run on the device."""
    from npu_simulator import session

    session.install()


__all__ = ["enable_v1", "v1"]
