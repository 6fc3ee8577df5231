"""From a job and an inventory to a Plan: pure data."""
