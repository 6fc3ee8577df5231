"""Processes on this host: fork, signals, /proc, the watchdog."""
