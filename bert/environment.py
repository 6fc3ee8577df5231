"""What TensorFlow reads while it is imported, and the cores of a rank. Standard library only."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from typing import Iterator, MutableMapping

from bert import onednn

# What TensorFlow 2.21's C++ says at every start, whatever TF_CPP_MIN_LOG_LEVEL is.
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} .*\] |To enable the following instruct"
)


def cores() -> int:
    """Count the cores of this rank, as the launcher has set them."""
    return int(os.environ.get("OMP_NUM_THREADS", "0")) or len(os.sched_getaffinity(0))


def prepare(environ: MutableMapping[str, str], device: str) -> None:
    """Set what is not set: call it before TensorFlow is imported."""
    onednn.ask(environ, device)
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # only errors
    # TensorFlow 2.16 and later import Keras 3 at every start, which takes 0.6 of 4 s and is not used here;
    # with this they look for tf_keras, which is seldom installed.
    if PathFinder.find_spec("tf_keras") is None:
        environ.setdefault("TF_USE_LEGACY_KERAS", "1")


def keep_descriptors() -> None:
    """Let no program that this one starts, as a device's driver does, inherit the lock of the device.

    It would hold the lock after this process has ended.
    """
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of this list is closed again
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def discard(descriptor: int) -> None:
    """Send nowhere what could not be written, as on a full disk: Python would try again when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from stderr what TensorFlow's C++ always says; the rest is written at the end."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            rest = b"".join(line for line in said if not _NOISE.match(line))
            if rest:
                os.write(2, rest)
