"""What the ranks of a framework need beside the common environment."""
