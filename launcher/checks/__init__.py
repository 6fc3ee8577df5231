"""What is looked at before a start, and on demand by `doctor`."""
