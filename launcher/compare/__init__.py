"""Runs, and logs of other programs, side by side."""
