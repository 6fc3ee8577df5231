"""How `npu-launch ask` talks: with people on a terminal, with programs in JSON lines."""
