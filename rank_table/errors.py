"""The errors of this package; a module of its own, as the command line knows them at every start."""

from __future__ import annotations


class RankTableError(ValueError):
    """An invalid rank table; the message is one line."""


class InventoryError(ValueError):
    """An invalid inventory; the message is one line."""
