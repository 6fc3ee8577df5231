"""HCCL's rules for rank tables: a catalogue, and a module of rules (functions) for every layout."""
