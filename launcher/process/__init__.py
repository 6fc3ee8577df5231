"""The operating system: fork, signals, /proc, the watchdog."""
