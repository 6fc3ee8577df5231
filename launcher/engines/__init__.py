"""Ways to run a job: in this terminal, in the background, in this process, or by agents on several hosts."""
