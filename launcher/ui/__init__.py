"""What a person reads: console lines, the report."""
