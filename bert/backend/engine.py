"""What predicts, and its connection to the other ranks: all that answering needs of a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generator, Iterator

if TYPE_CHECKING:
    from bert.config import BertConfig
    from bert.interfaces import Logits, PredictBatch


class Engine(ABC):
    """A job of one rank runs the same code as one of several."""

    name = ""
    rank = 0
    size = 1
    servers: tuple[str, ...] = ("localhost",)  # server_id of each rank
    static_shapes = False  # True: every batch must have the shapes of the first, and the graph states them
    precision = ""  # of the products; "": as the flags say

    @property
    def several_hosts(self) -> bool:
        """Tell whether a rank may lack files that another one has."""
        return len(set(self.servers)) > 1

    @abstractmethod
    def predict(
        self, config: BertConfig, prefix: str, batches: Iterator[PredictBatch], gelu: str = "exact"
    ) -> Generator[Logits, None, None]:
        """Yield (start logits, end logits) [B, L] of each batch, in order."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait for all ranks (on the host)."""

    @abstractmethod
    def all_gather(self, value: Any) -> list[Any]:
        """Collect a JSON value of every rank (on the host)."""

    @abstractmethod
    def close(self) -> None:
        """Release the device."""
