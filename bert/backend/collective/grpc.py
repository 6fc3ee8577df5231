"""All-reduce between ranks of several hosts through TensorFlow's own gRPC servers.

Used only when asked for by name (--collective grpc). tf.train.Server listens on every interface and runs any
graph that it is sent, without authentication: its ports belong behind a firewall.
"""

from __future__ import annotations

import ipaddress
import json
import queue
import socket
import sys
import threading
from typing import Any, Mapping, Sequence

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import collective_ops

from bert.backend.collective.shared_memory import CollectiveError
from bert.errors import TrainerError
from bert.interfaces import Tensor
from rank_table.ranges import spell

PORT = 30600  # rank r listens on PORT + r, unless NPU_LAUNCH_GRPC_PORT names another first port
_VARIABLE = "NPU_LAUNCH_GRPC_PORT"
_GROUP = 1


def addresses(hosts: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Build the host:port of each rank from the address of its host.

    Raises:
        TrainerError: NPU_LAUNCH_GRPC_PORT is no port, or there are not enough ports after it.
    """
    text = environ.get(_VARIABLE) or str(PORT)
    last = int(text) + len(hosts) - 1 if text.isdecimal() and len(text) < 6 else 0
    if not len(hosts) <= last <= 65535:
        raise TrainerError(
            f"{_VARIABLE}={text}: rank r listens on this port + r; {len(hosts)} ranks need a number"
            f" from 1 to {65536 - len(hosts)}"
        )
    return [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for port, host in enumerate(hosts, int(text))
    ]


def check(peers: Sequence[str], rank: int) -> None:
    """Look at all addresses before TensorFlow waits for them.

    Raises:
        TrainerError: an address cannot be found, or this rank's port is taken.
    """
    hosts = [peer.rpartition(":")[0].strip("[]") for peer in peers]
    for host in dict.fromkeys(hosts):
        ranks = [index for index, other in enumerate(hosts) if other == host]
        where = f"collective grpc: the address {host} of rank{'' if len(ranks) == 1 else 's'} {spell(ranks)}"
        try:
            found = str(socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM)[0][4][0])
        except OSError as error:
            raise TrainerError(
                f"{where} cannot be found on this host ({error.strerror}); give the hosts by IP addresses,"
                " or add it to /etc/hosts of each of them"
            ) from None
        if rank not in ranks and host != found and ipaddress.ip_address(found.partition("%")[0]).is_loopback:
            text = f"{where} is {found} here, this host itself; if it is another one, give the hosts by IP"
            print(f"{text} addresses", file=sys.stderr, flush=True)
    _check_port(int(peers[rank].rpartition(":")[2]), rank, len(peers))


def _check_port(port: int, rank: int, size: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise TrainerError(
                f"collective grpc: port {port} of rank {rank} on {socket.gethostname()}: {error.strerror};"
                f" end what uses it, or set {_VARIABLE} to the first of {size} free ports"
            ) from None


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
        try:
            self._server = tf.train.Server(cluster, "worker", rank, config=config)
        except tf.errors.OpError as error:
            reason = (str(error).splitlines() or [""])[0]
            raise TrainerError(f"collective grpc: no server for {peers[rank]}: {reason}") from None
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
        table = np.zeros((self.size, int(np.max(lengths))), np.int32)
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
