"""Errors of the data path.

ValueError
└── DataError      a file of the user is wrong; the message is one line: where, what is wrong, what to do
"""

from __future__ import annotations


class DataError(ValueError):
    """Something in the user's data is wrong; the message is one line."""
