"""One line of any program's log: its prefix, its level, the block of an error that it belongs to."""
