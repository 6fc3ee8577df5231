"""Hand a job to a queue: render what the engine is to run, and submit it."""
