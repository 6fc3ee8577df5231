"""From logits to answers and their figures."""
