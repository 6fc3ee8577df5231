"""One module per place that device facts come from."""
