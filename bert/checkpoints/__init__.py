"""Checkpoints: names and shapes (index), values (reader), files (store), resuming a run (resume)."""
