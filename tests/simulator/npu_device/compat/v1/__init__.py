"""Names of npu_bridge."""
