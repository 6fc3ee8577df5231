"""One run of a plan, from the first fork to the last process gone."""
