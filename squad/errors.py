"""Errors of the data path.

ValueError
└── DataError      a file of the user's is wrong; the message is one line: what, where, what to do
"""

from __future__ import annotations


class DataError(ValueError):
    """Say in one line what is wrong in the user's data, where, and what to do."""
