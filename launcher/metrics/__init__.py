"""What ranks measure of themselves: metrics.jsonl, and the rules that are applied to their counters."""
