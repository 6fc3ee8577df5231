"""From SQuAD files to batches: examples, features and their cache, the order of the data."""
