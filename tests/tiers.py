"""The tiers of the tests: what the fast one leaves out, and what is said at the end of a session."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Sequence

import pytest

TESTS = Path(__file__).resolve().parent
NEEDS_SHARED = "needs ../shared"
# Files and folders that import TensorFlow or make faults: the fast tier does not even collect them. A test of
# another file that starts TensorFlow has the marker `tensorflow`, or runs ranks (the fixture run_ranks).
HEAVY = (
    *(f"bert/test_{name}.py" for name in (
        "agreement", "checkpoint", "export", "golden", "grpc", "loss_scale", "model", "onednn", "optimizer",
        "progress", "resume", "trainer",
    )),
    *(f"squad/test_{name}.py" for name in (
        "ask", "input_files", "records", "run_squad", "seed_defects", "training",
    )),
    "npu/test_program.py",
    "faults",
)  # fmt: skip


class _NoTensorFlow:
    """An import hook under which there is no TensorFlow."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "tensorflow":
            raise ModuleNotFoundError("the fast tier (--fast) starts no TensorFlow", name=name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only what starts no TensorFlow and no fault")
    parser.addoption("--failed-list", metavar="FILE", help="append the ids of the tests that fail to FILE")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        sys.meta_path.insert(0, _NoTensorFlow())  # type: ignore[arg-type]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what is heavy; None leaves the decision to others."""
    if not config.getoption("--fast") or TESTS not in collection_path.parents:
        return None
    return collection_path.relative_to(TESTS).as_posix() in HEAVY or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--fast"):
        return
    out = [item for item in items if _is_heavy(item)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def _is_heavy(item: pytest.Item) -> bool:
    heavy = ("tensorflow", "slow", "stress", "engines", "frameworks")
    marked = any(item.get_closest_marker(name) for name in heavy)
    return marked or "run_ranks" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of reference data beside the checkout, or skip."""
    folder = Path(os.environ.get("NPU_LAUNCH_SHARED", str(TESTS.parents[1] / "shared")))
    if not (folder / "golden").is_dir():
        pytest.skip(f"{NEEDS_SHARED}: reference data not found at {folder} (set NPU_LAUNCH_SHARED)")
    return folder


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how many tests found no reference data, and note those that failed for scripts/run-tests."""
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist: the one that collects their reports speaks
        return
    stats = terminalreporter.stats
    count = left_out(stats.get("skipped", []))
    if count:
        line = f"LEFT OUT: {count} tests need ../shared (real SQuAD, other people's rank tables); "
        line += "put it beside the checkout or set NPU_LAUNCH_SHARED"
        terminalreporter.write_line(line, yellow=True, bold=True)
    file = config.getoption("--failed-list")
    if file:
        failed = {report.nodeid for kind in ("failed", "error") for report in stats.get(kind, [])}
        with open(file, "a", encoding="utf-8") as out:
            out.writelines(f"{nodeid}\n" for nodeid in sorted(failed))


def left_out(reports: Sequence[Any]) -> int:
    """Count the reports of tests that were skipped for want of ../shared."""
    return sum(NEEDS_SHARED in str(report.longrepr[-1]) for report in reports)
