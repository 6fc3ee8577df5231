"""Which rank failed first, and why; no process is touched."""
