"""One run of a plan, from its first process to its last."""
