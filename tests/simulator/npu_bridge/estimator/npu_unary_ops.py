"""The fused gelu."""

from npu_simulator import ops


class npu_unary_ops:
    gelu = staticmethod(ops.gelu)
