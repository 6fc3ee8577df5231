"""What a part of the loop waits for in its selector, as it changes."""

from __future__ import annotations

import selectors
from contextlib import suppress
from typing import Mapping


class Waits:
    """Descriptors of one part, which come and go; they carry no data in the selector."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._now: dict[int, int] = {}

    def update(self, wanted: Mapping[int, int]) -> None:
        """Wait for these from now on, each for its event of `selectors`."""
        for descriptor in [old for old, event in self._now.items() if wanted.get(old) != event]:
            self._selector.unregister(descriptor)
            del self._now[descriptor]
        for descriptor, event in wanted.items():
            if descriptor not in self._now:
                with suppress(OSError, ValueError):  # epoll takes no regular file, with which nothing waits
                    self._selector.register(descriptor, event)
                    self._now[descriptor] = event
