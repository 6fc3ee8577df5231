"""From SQuAD files to batches of features."""
