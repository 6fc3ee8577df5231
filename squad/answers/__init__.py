"""From logits to answers, their figures and plots."""
