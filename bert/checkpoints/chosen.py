"""The one checkpoint that a path means: of a run the best if it keeps that, else the newest."""

from __future__ import annotations

import os

from bert.checkpoints import index, store
from bert.evaluation import Standing


def chosen(path: str) -> str:
    """Return a prefix, or a path of safetensors; a path that means no checkpoint stays as it is.

    path: as `index.resolve` takes it, or the folder of a run.
    """
    folder = index.within(path)
    newest = index.resolve(folder)
    facts = index.record(newest)
    config, best = facts.get("config"), Standing.read(facts).best_step
    if best and os.path.isdir(folder) and isinstance(config, dict) and config.get("keep_best"):
        prefix = store.prefix_of(folder, best)
        return prefix if index.find(prefix) else newest
    return newest
