"""HCCL's variables and error codes."""
