"""Test cases from a 13-column CSV file, each an isolated run."""
