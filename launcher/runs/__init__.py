"""Run folders: found, locked, stopped, gathered."""
