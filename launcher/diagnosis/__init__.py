"""Which rank failed first, and why. Reads only; no process is changed."""
