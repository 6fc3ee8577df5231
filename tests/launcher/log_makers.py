"""Write logs of runs as the launcher does, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Sequence, Tuple

from launcher.logs.writer import LogWriter
from launcher.run_dir import RunDir

BEGIN = 1790000000 * 10**9  # ns since the epoch
MS = 10**6
Chunk = Tuple[int, str, bytes]  # ms after BEGIN, stream, bytes


def make_run(folder: Path, ranks: Sequence[Iterable[Chunk]]) -> RunDir:
    """Make a run folder whose ranks wrote these chunks; `latest` names it."""
    run = RunDir.create(folder, range(len(ranks)))
    for rank, chunks in enumerate(ranks):
        files = LogWriter(str(run.log(rank)), str(run.index(rank)))
        for when, stream, data in chunks:
            files.append(stream, memoryview(data), BEGIN + when * MS)
        files.close()
    run.write_json(run.result, {"exit_code": 0})
    link = folder.parent / "latest"
    if not link.exists():
        link.symlink_to(folder.name)
    return run
