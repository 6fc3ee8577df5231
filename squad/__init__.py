"""SQuAD: the run_squad program, and what it is made of: data, answers, evaluation."""
