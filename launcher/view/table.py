"""A look at a run as lines of a terminal; plain text, so that drawing 64 ranks costs milliseconds."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

from launcher.process.procfs import span
from launcher.text import printable
from launcher.view.snapshot import RankView, RunView

BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.,-~=*#"  # eight heights; where the terminal has no Unicode
SPARK = 40  # columns


class Column(NamedTuple):
    """A column. first: the higher, the sooner it goes where the terminal is narrow."""

    title: str
    width: int
    first: int
    show: Callable[[Any], str | None]
    left: bool = False


def share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.0f}%"


def number(value: float | None) -> str | None:
    """Write a figure in four digits or so.

    >>> number(3.14159), number(1234.5), number(0.00012), number(12345678)
    ('3.142', '1234', '1.2e-04', '1.2e+07')
    """
    if value is None:
        return None
    size = abs(value)
    if size and not 0.001 <= size < 1e7:
        return f"{value:.1e}"
    return f"{value:.0f}" if size >= 1000 else f"{value:.4g}"


def size(value: int | None) -> str | None:
    """Write bytes.

    >>> size(3 << 30), size(5 << 20)
    ('3.0G', '5M')
    """
    if value is None:
        return None
    return f"{value / (1 << 30):.1f}G" if value >= 1 << 30 else f"{value >> 20}M"


def age(value: float | None) -> str | None:
    """Write an age.

    >>> age(0.25), age(75), age(7300), age(200000)
    ('0.2s', '75s', '2.0h', '2.3d')
    """
    if value is None:
        return None
    if value < 10:
        return f"{value:.1f}s"
    if value < 1000:
        return f"{value:.0f}s"
    return f"{value / 3600:.1f}h" if value < 172800 else f"{value / 86400:.1f}d"


def _hbm(rank: RankView) -> str | None:
    if rank.npu_memory is None or not rank.npu_memory_total:
        return None
    return f"{rank.npu_memory / 1024:.1f}/{rank.npu_memory_total / 1024:.0f}G"


def _whole(value: int | None) -> str | None:
    return None if value is None else str(value)


COLUMNS = (
    Column("RANK", 4, 0, lambda rank: str(rank.rank)),
    Column("HOST", 12, 14, lambda rank: rank.host, True),
    Column("DEV", 3, 11, lambda rank: _whole(rank.device)),
    Column("STATE", 8, 2, lambda rank: rank.state, True),
    Column("PHASE", 8, 10, lambda rank: rank.phase, True),
    Column("STEP", 7, 1, lambda rank: _whole(rank.step)),
    Column("EX/S", 6, 3, lambda rank: number(rank.examples_per_second)),
    Column("OWN", 4, 4, lambda rank: share(rank.own)),
    Column("WAIT", 4, 4, lambda rank: share(rank.wait)),
    Column("INPUT", 5, 4, lambda rank: share(rank.input)),
    Column("SAVE", 4, 12, lambda rank: share(rank.save)),
    Column("LOSS", 7, 9, lambda rank: number(rank.loss)),
    Column("CPU%", 5, 5, lambda rank: None if rank.cpu is None else f"{rank.cpu:.0f}"),
    Column("MEM", 5, 6, lambda rank: size(rank.memory)),
    Column("NPU%", 4, 5, lambda rank: _whole(rank.npu)),
    Column("HBM", 9, 6, _hbm),
    Column("TEMP", 4, 8, lambda rank: _whole(rank.temperature)),
    Column("POWER", 5, 8, lambda rank: None if rank.power is None else f"{rank.power:.0f}W"),
    Column("BEAT", 5, 7, lambda rank: age(rank.beat_age)),
    Column("LINE", 5, 13, lambda rank: age(rank.line_age)),
)
OPTIONAL = ("HOST", "NPU%", "HBM", "TEMP", "POWER", "SAVE")  # not where they say nothing of any rank
SORTS: dict[str, tuple[str, Callable[[RankView], float]]] = {
    "r": ("rank", lambda rank: rank.rank),
    "s": ("step", lambda rank: -1 if rank.step is None else rank.step),
    "o": ("own", lambda rank: -(rank.own or 0)),
    "w": ("wait", lambda rank: -(rank.wait or 0)),
    "c": ("CPU", lambda rank: -(rank.cpu or 0)),
    "m": ("memory", lambda rank: -(rank.memory or 0)),
}
RUNS = (
    Column("RUN", 32, 0, lambda run: run.run, True),
    Column("STATE", 9, 1, lambda run: run.state, True),
    Column("RANKS", 5, 5, lambda run: str(len(run.ranks))),
    Column("STEP", 13, 2, lambda run: _steps(run)),
    Column("LOSS", 7, 3, lambda run: number(run.loss)),
    Column("EX/S", 6, 4, lambda run: number(run.examples_per_second)),
    Column("ETA", 10, 6, lambda run: None if run.eta is None else span(run.eta)),
    Column("ELAPSED", 10, 7, lambda run: None if run.elapsed is None else span(run.elapsed)),
    Column("EXIT", 4, 8, lambda run: _whole(run.exit_code)),
    Column("SLOW", 60, 9, lambda run: run.straggler, True),
)


def _steps(run: RunView) -> str | None:
    if run.step is None:
        return None
    return f"{run.step}/{run.total_steps}" if run.total_steps else str(run.step)


def in_order(ranks: Sequence[RankView], key: str) -> list[RankView]:
    """Sort ranks by the column of a key."""
    return sorted(ranks, key=SORTS[key][1])


def chosen(columns: Sequence[Column], rows: Sequence[Any], width: int) -> list[Column]:
    """Choose the columns that fit, the most useful first."""
    hosts = len({getattr(row, "host", None) for row in rows}) > 1
    told = [
        column
        for column in columns
        if column.title not in OPTIONAL
        or (hosts if column.title == "HOST" else any(column.show(row) not in (None, "0%") for row in rows))
    ]
    kept, used = set(), -1
    for column in sorted(told, key=lambda column: column.first):
        if used + column.width + 1 <= width:
            kept.add(column.title)
            used += column.width + 1
    return [column for column in told if column.title in kept]


def lines(columns: Sequence[Column], rows: Sequence[Any]) -> list[str]:
    """Align rows under their titles."""
    found = [" ".join(_cell(column.title, column) for column in columns)]
    for row in rows:
        cells = (column.show(row) for column in columns)
        found.append(
            " ".join(_cell("-" if text is None else text, column) for text, column in zip(cells, columns))
        )
    return [line.rstrip() for line in found]


def _cell(text: str, column: Column) -> str:
    if len(text) > column.width:
        text = text[: column.width - 1] + "~"
    return text.ljust(column.width) if column.left else text.rjust(column.width)


def spark(values: Sequence[float], width: int, blocks: str = BLOCKS) -> str:
    """Draw values as a line of blocks, each column the mean of its share of them.

    >>> spark((1, 2, 3, 4), 4)
    '▁▃▆█'
    """
    if not values or width < 1:
        return ""
    width = min(width, len(values))
    edges = [place * len(values) // width for place in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:])]
    low, high = min(means), max(means)
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(blocks[min(len(blocks) - 1, int((mean - low) * scale + 0.5))] for mean in means)


def head(run: RunView, width: int, blocks: str = BLOCKS) -> list[str]:
    """Return the lines above the table."""
    first = [run.run, run.job or run.state]
    first += [f"attempt {run.attempt}"] if run.attempt > 1 else []
    first += [span(run.elapsed)] if run.elapsed is not None else []
    first += [f"exit code {run.exit_code}"] if run.exit_code is not None else []
    first += [f"{len(run.hosts)} hosts" if len(run.hosts) > 1 else run.hosts[0]] if run.hosts else []
    found = [", ".join(first), ", ".join(progress(run))]
    if run.loss is not None:
        text = f"loss {number(run.loss)} "
        found.append(text + spark(run.losses, min(SPARK, width - len(text)), blocks))
    found += [run.failure] if run.failure else []
    found += [f"slow: {run.straggler}"] if run.straggler else []
    found += [f"alert: {text}" for text in run.alerts]
    found += [f"missing: {printable(text)}" for text in run.missing]
    return [line[:width] for line in found if line]


def progress(run: RunView) -> list[str]:
    """Say how far a run is, and how fast."""
    found = [f"step {_steps(run)}"] if run.step is not None else []
    found += [f"{number(run.steps_per_second)} steps/s"] if run.steps_per_second else []
    found += [f"ETA {span(run.eta)}"] if run.eta is not None else []
    if run.examples_per_second is not None:
        best = run.best_examples_per_second
        text = f"{number(run.examples_per_second)} examples/s"
        found.append(f"{text} (best {number(best)})" if best else text)
    return found


def one_line(run: RunView) -> str:
    """Say in one line how a run is: what is printed now and then where there is no terminal."""
    loss = [f"loss {number(run.loss)}"] if run.loss is not None else []
    slow = [run.straggler] if run.straggler else []
    ended = [f"exit code {run.exit_code}"] if run.exit_code is not None else []
    alert = [f"alert: {run.alerts[-1]}"] if run.alerts else []
    return ", ".join([f"{run.run} {run.state}", *ended, *progress(run), *loss, *slow, *alert])


def whole(runs: Sequence[RunView], width: int, blocks: str, sort: str = "r") -> list[str]:
    """Return the head and the table of one run, or a line for each of several."""
    if len(runs) != 1:
        return lines(chosen(RUNS, runs, width), runs)
    ranks = in_order(runs[0].ranks, sort)
    body = ["", *lines(chosen(COLUMNS, ranks, width), ranks)] if ranks else []
    return [*head(runs[0], width, blocks), *body]
