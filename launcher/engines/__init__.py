"""Ways to run a plan: here, in the background, in this process."""
