"""The import path of squad.data.examples before 0.1.0, kept for one release."""

from squad.data.examples import Example, Examples, overlap, read_squad

__all__ = ["Example", "Examples", "overlap", "read_squad"]
