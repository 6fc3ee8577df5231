"""HCCL's rules for rank tables: a catalogue, and one module per layout with the rules as functions."""
