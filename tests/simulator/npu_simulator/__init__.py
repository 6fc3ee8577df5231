"""An Ascend device that is not there: TensorFlow on CPU behind the names of CANN's adapter.

Written from the adapter's public documentation. It computes what the device would compute, joins ranks by
real collectives, and refuses what the adapter or HCCL refuse (or would hang or train wrongly on).
"""
