"""What differs on this machine from a run: versions, commit, files by their hashes, and whether it starts."""

from __future__ import annotations

import os
import time
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from launcher.checks import provenance
from launcher.config.job import load
from launcher.errors import LauncherError
from launcher.plan.model import Plan
from launcher.plan.planner import plan_job
from launcher.run_dir import RunDir
from launcher.runs.registry import provenance_of
from rank_table.errors import InventoryError, RankTableError


class Difference(NamedTuple):
    """A fact with its values then and now; "": not known on that side."""

    name: str
    then: str
    now: str


class Comparison(NamedTuple):
    """What differs, what is not known, and why this machine would refuse the job."""

    differences: tuple[Difference, ...]
    unknown: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def compare(run: RunDir, words: Sequence[str], overrides: Sequence[str], then: Plan | None) -> Comparison:
    """Plan a run's job in this folder, as a launch would, and compare what it is made of."""
    try:
        end = words.index("--") if "--" in words else len(words)
        command = words[end + 1 :]
        config, source = load(words[0], [*words[1:end], *overrides], {})
        plan = plan_job(config, source, command).plan
    except LauncherError as error:
        return Comparison((), (), tuple(error.lines))
    except (InventoryError, RankTableError) as error:
        return Comparison((), (), (str(error),))
    known = provenance_of(run)
    if not known:
        lacking: tuple[str, ...] = (
            "versions, commit and files of the run: neither result.json nor provenance.json holds them",
        )
        return Comparison(tuple(_devices(then, plan)), lacking)
    before, after = (dict(_flat(one)) for one in (known, provenance.take(plan, time.time())))
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if "no changes" in (before.get("changed"), after.get("changed")):
        names = [name for name in names if name != "changed_sha256"]  # there is none of no changes
    hashed = [name for name in names if _is_known(name, before)]
    lacking = tuple(f"{name}: the run did not hash it" for name in names if name not in hashed)
    found = [Difference(name, before.get(name, ""), after.get(name, "")) for name in hashed]
    return Comparison((*_devices(then, plan), *found), lacking)


def _is_known(name: str, before: Mapping[str, str]) -> bool:
    """Tell whether a run can have told a fact: an older launcher told no hashes."""
    return name in before or "sha256" not in name


def _flat(known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts of a provenance by name; of a file its size and hash, not its path or time."""
    for name, value in known.items():
        if name == "files" and isinstance(value, list):
            for item in filter(lambda one: isinstance(one, dict), value):
                label = item.get("option") or os.path.basename(str(item.get("path")))
                for key in ("bytes", "sha256", "sha256_of_samples"):
                    if key in item:
                        yield f"{label} {key}", str(item[key])
        elif isinstance(value, (str, int, float)):
            yield name, str(value)


def _devices(then: Plan | None, now: Plan) -> Iterator[Difference]:
    if then and then.hosts:  # the others are not seen from here
        return
    for name in ("backend", "world_size"):
        old, new = (str(getattr(plan, name)) if plan else "" for plan in (then, now))
        if old and old != new:
            yield Difference({"world_size": "ranks"}.get(name, name), old, new)
    if then and [one.device_id for one in then.ranks] != [one.device_id for one in now.ranks]:
        lists = [",".join(str(one.device_id) for one in plan.ranks) for plan in (then, now)]
        yield Difference("devices", *lists)
