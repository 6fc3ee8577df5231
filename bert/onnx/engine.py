"""Predict with onnxruntime on all ranks. TensorFlow is not needed, unless ranks are connected by gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generator, Iterator

from bert import environment
from bert.backend import collective
from bert.backend.engine import Engine
from bert.cluster import Cluster
from bert.config import BertConfig
from bert.onnx import session

if TYPE_CHECKING:
    from bert.interfaces import Logits, PredictBatch


class OnnxEngine(Engine):
    """The cores of a rank, or its Ascend device where onnxruntime is made for CANN."""

    name = "onnxruntime"

    def __init__(self, cluster: Cluster, path: str, kind: str = "auto") -> None:
        """Load an .onnx file and connect to the other ranks. CheckpointError: it cannot be loaded."""
        self.rank, self.size, self.servers = cluster.rank, cluster.size, cluster.servers
        # One batch a core: a thread that waits for another one's part of a product computes nothing.
        self._model = session.open(path, at_once=environment.cores())
        self.static_shapes = self._model.padded
        self.precision = self._model.precision
        self._collective = collective.connect(cluster, kind)

    def predict(
        self, config: BertConfig, prefix: str, batches: Iterator[PredictBatch], gelu: str = "exact"
    ) -> Generator[Logits, None, None]:
        yield from self._model.run_all(batches)

    def barrier(self) -> None:
        self._collective.barrier()

    def all_gather(self, value: Any) -> list[Any]:
        return self._collective.all_gather(value)

    def close(self) -> None:
        self._model.close()
        collective.close(self._collective)
