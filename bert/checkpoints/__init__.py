"""Checkpoints: read, indexed, written, resumed from."""
