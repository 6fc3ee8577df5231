"""SQuAD: examples, features, batches, predictions, evaluation, and the run_squad program."""
