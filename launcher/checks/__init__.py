"""Checks of a machine: before every start (preflight), and on demand (doctor)."""
