"""What ranks on several hosts must have in common, and cannot exchange through files."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections import Counter
from typing import Mapping, Sequence

import numpy as np

from bert.backend.engine import Engine
from bert.checkpoints.resume import fingerprint
from rank_table.ranges import spell
from squad.data.features import Features
from squad.errors import DataError
from squad.flags import fields
from squad.job import Dataset, Job

_AT_ONCE = 16 << 20  # bytes of all ranks in one exchange


def compare(
    job: Job,
    backend: Engine,
    train_set: Dataset | None,
    dev_set: Dataset | None,
    eval_set: Dataset | None = None,
) -> None:
    """Compare what each host has made of its own copies of the files, before any step.

    Raises:
        DataError: names the hosts that differ from the first one, and in what.
    """
    facts = _settings(job)
    facts["init_checkpoint"] = fingerprint(job.flags.init_checkpoint)
    for flag, data in (("train_file", train_set), ("predict_file", dev_set), ("eval_share", eval_set)):
        facts[flag] = digest(data.features) if data else ""
    problems = differences(backend.all_gather(facts), job.cluster.servers)
    if problems:
        raise DataError(
            f"{'; '.join(problems)}; give every host the same files and code, and empty input_files_dir there"
        )


def _settings(job: Job) -> dict[str, str]:
    """Collect the flags that are no paths: some are settled by the files of a host."""
    names = [name for name, field in fields().items() if not field.metadata["path"]]
    return {name: json.dumps(getattr(job.flags, name)) for name in names}


def digest(features: Features) -> str:
    """Hash the rows that are trained on or answered."""
    result = hashlib.sha256(str(features.input_ids.shape).encode())
    for field in dataclasses.fields(features):
        value = getattr(features, field.name)
        if isinstance(value, np.ndarray) and value.dtype != object:
            result.update(np.ascontiguousarray(value).data)
    return result.hexdigest()


def differences(of_ranks: Sequence[Mapping[str, str]], servers: Sequence[str]) -> list[str]:
    """Describe what is not equal on all ranks: one line for each fact."""
    lines = []
    for name in of_ranks[0]:
        values = [facts.get(name) for facts in of_ranks]
        usual, _ = Counter(values).most_common(1)[0]
        others = [rank for rank, value in enumerate(values) if value != usual]
        if others:
            hosts = ", ".join(dict.fromkeys(servers[rank] for rank in others))
            ranks = spell(others)
            like = servers[values.index(usual)]
            lines.append(f"--{name} means something else on {hosts} (rank {ranks}) than on {like}")
    return lines


def collect(data: bytes, backend: Engine) -> list[bytes]:
    """Send bytes of each rank to rank 0, which returns them; the others return []."""
    lengths: list[int] = backend.all_gather(len(data))
    step = max(_AT_ONCE // len(lengths), 1024)
    parts: list[list[str]] = [[] for _ in lengths]
    for start in range(0, max(lengths), step):
        chunk = base64.b64encode(data[start : start + step]).decode()
        for held, part in zip(parts, backend.all_gather(chunk)):
            held += [part] if backend.rank == 0 else []
    return [b"".join(map(base64.b64decode, held)) for held in parts] if backend.rank == 0 else []
