"""All-reduce between CPU ranks."""
