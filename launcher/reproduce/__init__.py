"""A run started again: the command that does it, and what differs on this machine."""
