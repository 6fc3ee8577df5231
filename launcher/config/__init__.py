"""train.yaml and its overrides as one typed object."""
