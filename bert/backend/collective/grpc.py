"""All-reduce between ranks of several hosts through TensorFlow's own gRPC servers.

Used only when asked for by name (--collective grpc). tf.train.Server listens on every interface and runs any
graph that it is sent, without authentication: its ports belong behind a firewall.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from typing import Any, Mapping, Sequence

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import collective_ops

from bert.backend.collective.shared_memory import CollectiveError
from bert.interfaces import Tensor

PORT = 30600  # rank r listens on PORT + r, unless NPU_LAUNCH_GRPC_PORT names another first port
_GROUP = 1


def addresses(servers: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Build the host:port of each rank from the rank table's server_id."""
    first = int(environ.get("NPU_LAUNCH_GRPC_PORT", str(PORT)))
    return [f"{server}:{first + rank}" for rank, server in enumerate(servers)]


class Grpc:
    """The ranks at these addresses. CollectiveError after `timeout` seconds without a peer."""

    def __init__(self, peers: Sequence[str], rank: int, timeout: float = 600.0) -> None:
        self.rank, self.size, self._peers = rank, len(peers), list(peers)
        self._timeout, self._broken = timeout, False
        self._sums: dict[
            tuple[str, int], tuple[Tensor, Tensor, Tensor]
        ] = {}  # (type, length) -> session, input, sum
        port = peers[rank].rpartition(":")[2]
        print(
            f"collective grpc: rank {rank} listens on port {port} of every interface"
            " and runs any graph that it is sent; block that port for others",
            file=sys.stderr,
            flush=True,
        )
        config = tf.ConfigProto()
        config.experimental.collective_group_leader = "/job:worker/replica:0/task:0"
        cluster = tf.train.ClusterSpec({"worker": self._peers})
        self._server = tf.train.Server(cluster, "worker", rank, config=config)
        self.barrier()

    def barrier(self) -> None:
        """Wait for all ranks."""
        self._sum(np.zeros(1, np.float32))

    def all_reduce_sum(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sum each array over the ranks; bit-equal on all of them. All have one type."""
        flat = np.concatenate([np.asarray(array).reshape(-1) for array in arrays])
        ends = np.cumsum([array.size for array in arrays])[:-1]
        parts = np.split(self._sum(flat), ends)
        return [part.reshape(array.shape) for part, array in zip(parts, arrays)]

    def all_gather(self, value: Any) -> list[Any]:
        """Collect a JSON value of every rank, in rank order."""
        data = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = np.zeros(self.size, np.int32)
        lengths[self.rank] = len(data)
        lengths = self._sum(lengths)
        table = np.zeros((self.size, int(lengths.max())), np.int32)
        table[self.rank, : len(data)] = data
        rows = self._sum(table.reshape(-1)).reshape(table.shape).astype(np.uint8)
        return [json.loads(row[:length].tobytes().decode()) for row, length in zip(rows, lengths)]

    def _sum(self, flat: np.ndarray) -> np.ndarray:
        key = (flat.dtype.name, len(flat))
        if key not in self._sums:
            self._sums[key] = self._graph(flat, len(self._sums) + 1)
        session, given, total = self._sums[key]
        answer: queue.Queue[tuple[Any, str]] = queue.Queue()

        def run() -> None:
            try:
                answer.put((session.run(total, {given: flat}), ""))
            except tf.errors.OpError as error:
                answer.put((None, (str(error).splitlines() or [""])[0]))

        # A thread, as TensorFlow 1.15 keeps waiting for a dead peer whatever timeout it is given.
        threading.Thread(target=run, daemon=True).start()
        try:
            result, reason = answer.get(timeout=self._timeout)
        except queue.Empty:
            result = None
            reason = f"not all of {', '.join(self._peers)} answered within {self._timeout:g} s"
        if result is None:
            self._broken = True
            raise CollectiveError(f"collective grpc, rank {self.rank}: {reason}")
        return np.asarray(result)

    def _graph(self, flat: np.ndarray, instance: int) -> tuple[Tensor, Tensor, Tensor]:
        """Build the sum of arrays of a type and length; all ranks build their graphs in the same order."""
        with tf.Graph().as_default(), tf.device(f"/job:worker/task:{self.rank}/device:CPU:0"):
            given = tf.placeholder(flat.dtype, [len(flat)])
            total = collective_ops.all_reduce(given, self.size, _GROUP, instance, "Add", "Id")
            # Without the filter a session belongs to all tasks, and closing it waits for those that ended.
            config = tf.ConfigProto(device_filters=[f"/job:worker/task:{self.rank}"])
            return tf.Session(self._server.target, config=config), given, total

    def close(self) -> None:
        """Close the sessions. Only the end of the process ends a server of TensorFlow."""
        for session, _, _ in self._sums.values() if not self._broken else ():
            session.close()  # one that waits for a dead peer would wait here too
