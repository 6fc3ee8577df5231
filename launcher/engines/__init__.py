"""Ways to run a plan: on this host, in the background, in this process."""
