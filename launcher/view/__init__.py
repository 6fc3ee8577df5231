"""One look at a run, living or ended."""
