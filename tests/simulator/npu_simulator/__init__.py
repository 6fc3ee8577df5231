"""An Ascend device that is not there: stand-ins for what CANN's adapter has compiled, on TensorFlow's CPU.

The operations of _tf_adapter.so (`library`, `kernels`), its modules in C++ (`plugin`), what the graph engine
makes of sessions and graphs (`session`, `graph`, `options`), and the device with HCCL (`device`). Signatures,
types and refusals come from ../adapter_names.json, which names the line of the adapter's source that each one
stands in; scripts/check-adapter holds it against that source. Refusals that no source has are in
`refusals.OURS`, each with the reason why a simulator should be stricter there.
"""
