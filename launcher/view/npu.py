"""What npu-smi says of this host's NPUs, asked beside the view, which never waits for it."""

from __future__ import annotations

import threading
import time
from typing import Mapping

from rank_table.sources import chips
from rank_table.sources.npu_smi import SmiChip
from rank_table.sources.tools import Machine

EVERY = 5.0  # seconds
TIMEOUT = 4.0


class Npus:
    """The chips by the N of /dev/davinciN, as they last were."""

    def __init__(self, machine: Machine | None = None) -> None:
        self._machine = machine or Machine(timeout=TIMEOUT)
        self._asking: threading.Thread | None = None
        self._next = 0.0
        self.chips: Mapping[int, SmiChip] = {}
        self.problem = ""

    def look(self, patience: float = 0.0) -> None:
        """Ask again if it is time to; patience: seconds to wait for the answer."""
        now = time.monotonic()
        if now >= self._next and not (self._asking and self._asking.is_alive()):
            self._next = now + EVERY
            self._asking = threading.Thread(target=self._ask, daemon=True, name="npu-smi")
            self._asking.start()
        if self._asking and patience:
            self._asking.join(patience)

    def _ask(self) -> None:
        try:
            view = chips.look(self._machine)
        except Exception as error:
            self.chips, self.problem = {}, f"npu-smi: {error!r:.200}"
            return
        self.chips = {chip.device_id: chip for chip in view.chips} if view.known else {}
        self.problem = "" if view.known else "; ".join(view.problems[:1])
        if self._machine.unresponsive_tools:  # it may answer later
            self._machine = Machine(timeout=TIMEOUT)
