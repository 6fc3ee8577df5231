"""Files on their way from hosts that share no disk with the head: what each host gathered comes here.

Each host gathers what its ranks made in its own run folder, as one host does; there it stays. `offer` says
what is coming, `file` brings a piece, `files_done` ends it; `took` tells the host how many bytes are written.
The head takes what was offered and nothing else, below hosts/NAME/files, or below gathered/rank_N of ranks of
that host; a file appears whole, with the sha256 that its host has computed, or not at all.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Collection, Iterator, Mapping, NamedTuple, Sequence

from launcher.errors import ReadError
from launcher.hosts.frames import Frame
from launcher.run_dir import HostRunDir, RunDir, host_folder
from launcher.runs.artifacts import Artifacts, FileSet, number
from launcher.runs.gather import Arrived
from launcher.text import some
from launcher.typed_json import Value

_MOST_NAMED = 3  # files that are missing; more are counted
_MOST_PROBLEMS = 100  # of one host; whoever forges frames gets no more room
STAGED = ("checkpoints", "predictions")  # folders whose files the head places anew
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Source(NamedTuple):
    """A host from which files come: its name and its ranks.

    shared: it shares the disk of the run folder, and brings there what lies on disks of its own.
    """

    name: str
    ranks: Collection[int]
    shared: bool = False


@dataclass
class _Coming:
    """The file of a host that is being written: a hidden one beside its place."""

    path: str
    size: int
    mode: int
    written: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


@dataclass
class _Transfer:
    """What one host sends."""

    source: Source
    offer: Value | None = None
    expected: dict[str, None] = field(default_factory=dict)  # paths in its run folder
    came: set[str] = field(default_factory=set)
    elsewhere: set[tuple[int, str]] = field(default_factory=set)  # ranks and paths on its own disk
    coming: _Coming | None = None
    bytes: int = 0
    total: int = 0  # bytes of what is offered
    told: int = 0  # bytes that the host has heard of
    problems: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def complain(self, *problems: str) -> None:
        self.problems += problems[: max(0, _MOST_PROBLEMS - len(self.problems))]

    def name_missing(self, why: str, place: str) -> None:
        """Name the files that have not come; `why` goes for those of which nothing is known."""
        missing = [path for path in self.expected if path not in self.came]
        known = " ".join(self.problems)
        unknown = [path for path in missing if path not in known]
        if unknown:
            more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
            self.complain(f"{', '.join(unknown[:_MOST_NAMED])}{more}: {why}")
        if missing:
            self.complain(f"what has not come is {place}")

    def named(self, lines: Sequence[str]) -> list[str]:
        return [f"host {self.source.name}: {line}" for line in lines]


class Receiver:
    """The head's end. `waiting`: the indexes of hosts that have not sent everything."""

    def __init__(self, run: RunDir, sources: Mapping[int, Source]) -> None:
        self._run = run
        self._transfers = {index: _Transfer(source) for index, source in sources.items()}
        self.waiting = set(sources)

    def fetch(self, index: int, patterns: Sequence[str], ended_well: bool) -> dict[str, Any]:
        """Return the body of `fetch` for a host; `patterns` and `ended_well` are those of gather()."""
        source = self._transfers[index].source
        how = {"patterns": list(patterns), "ended_well": ended_well, "shared": source.shared}
        return {"ranks": sorted(source.ranks), **how}

    def totals(self) -> dict[str, int]:
        """Return the body of `took`: the bytes of files taken from each host, where they have grown."""
        found: dict[str, int] = {}
        for index in self.waiting:
            transfer = self._transfers[index]
            if transfer.bytes > transfer.told:
                transfer.told = found[str(index)] = transfer.bytes
        return found

    def progress(self) -> str:
        """Say for the user what has come, and from where more is to come."""
        transfers = self._transfers.values()
        size, total = sum(item.bytes for item in transfers), sum(item.total for item in transfers)
        waiting = some([self._transfers[index].source.name for index in sorted(self.waiting)])
        return f"bringing files: {size >> 20} of {total >> 20} MiB; more are to come from {waiting}"

    def take(self, frame: Frame) -> None:
        """Take a frame `offer`, `file` or `files_done`; what is wrong with it is a problem of its host."""
        transfer = self._transfers.get(frame.host)
        if transfer is None or frame.host not in self.waiting:
            return
        try:
            if frame.kind == "offer":
                self._offered(transfer, Value(frame.body, "offer"))
            elif frame.kind == "file":
                self._piece(frame.host, transfer, *frame.body)
            elif frame.kind == "files_done":
                transfer.complain(*Value(frame.body, "files_done").get("problems").texts())
                self._ended(frame.host, "its host has not sent it")
        except ReadError as error:
            transfer.complain(str(error))

    @staticmethod
    def _offered(transfer: _Transfer, offer: Value) -> None:
        sets = [*offer.get("checkpoints").items(), *offer.get("predictions").items()]
        paths = [path for item in sets for path in item.get("files").texts()]
        transfer.expected = dict.fromkeys([*paths, *offer.get("files").texts()])
        transfer.complain(*offer.get("problems").texts())
        transfer.notes, transfer.total = offer.get("notes").texts(), offer.get("bytes", 0).whole()
        transfer.elsewhere = {
            (rank, path)
            for rank in transfer.source.ranks
            for path in offer.get("elsewhere").get(str(rank), []).texts()
        }
        transfer.offer = offer
        if transfer.source.shared:
            transfer.came = set(transfer.expected)

    def _piece(self, index: int, transfer: _Transfer, header: Any, data: bytes) -> None:
        """Write a piece; after one that cannot be written the rest of its file is dropped."""
        transfer.bytes += len(data)
        value = Value(header, "file")
        path = value.get("path").text()
        if value.get("offset").whole() == 0:
            self._begin(index, transfer, path, value)
        coming = transfer.coming
        if coming is None or coming.path != path:
            return
        try:
            self._write(index, transfer, coming, value, data)
        except (OSError, ReadError) as error:
            transfer.complain(f"{path}: {getattr(error, 'strerror', None) or error}")
            self._drop(index, transfer)

    def _begin(self, index: int, transfer: _Transfer, path: str, value: Value) -> None:
        self._drop(index, transfer)
        if path not in transfer.expected or path in transfer.came:
            raise ReadError(f"{path!r:.200}: not offered; not taken")
        transfer.coming = _Coming(path, value.get("size").whole(), value.get("mode").whole() & 0o777)

    def _write(self, index: int, transfer: _Transfer, coming: _Coming, value: Value, data: bytes) -> None:
        if value.get("offset").whole() != coming.written or coming.written + len(data) > coming.size:
            raise ReadError("its pieces do not fit together")
        with self._folder(transfer.source, coming.path) as folder:
            _append(folder, _hidden(index), data, coming)
            if not value.get("last").flag():
                return
            if coming.written != coming.size or coming.digest.hexdigest() != value.get("sha256").text():
                raise ReadError("sha256 differs from the one on its host")
            os.replace(_hidden(index), os.path.basename(coming.path), src_dir_fd=folder, dst_dir_fd=folder)
        transfer.came.add(coming.path)
        transfer.coming = None

    def _drop(self, index: int, transfer: _Transfer) -> None:
        """Remove the file that is not whole."""
        coming, transfer.coming = transfer.coming, None
        if coming is not None:
            with suppress(OSError, ReadError), self._folder(transfer.source, coming.path) as folder:
                os.unlink(_hidden(index), dir_fd=folder)

    @contextmanager
    def _folder(self, source: Source, path: str) -> Iterator[int]:
        """Open the folder in which a file of a host belongs; ranks may have put links in its place."""
        parts = [*self._place(source, path).split("/")[:-1]]
        descriptor = os.open(str(self._run.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=descriptor)
                inner = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _place(self, source: Source, path: str) -> str:
        """Return where in the run folder a file belongs. ReadError: nowhere."""
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in path or len(parts) < 2:
            raise ReadError("no path in a run folder; not taken")
        if parts[0] in STAGED:
            return "/".join(("hosts", host_folder(source.name), "files", path))
        if (
            len(parts) > 2
            and parts[0] == "gathered"
            and parts[1] in {f"rank_{rank}" for rank in source.ranks}
        ):
            return path
        raise ReadError("no file of a rank of that host; not taken")

    def give_up(self, index: int, why: str) -> None:
        """Wait no longer for a host: it is lost, or the run was interrupted."""
        if index in self.waiting:
            self._ended(index, why)

    def give_up_all(self, why: str) -> None:
        """Wait no longer for any host."""
        for index in sorted(self.waiting):
            self.give_up(index, why)

    def _ended(self, index: int, why: str) -> None:
        transfer = self._transfers[index]
        self._drop(index, transfer)
        self.waiting.discard(index)
        place = f"in {self._run.path} on that host"
        if transfer.offer is not None:
            transfer.name_missing(why, place)
        elif not transfer.source.shared:
            transfer.complain(f"{why}; what its ranks made is {place}")

    def arrived(self) -> Arrived:
        """Return what has come, for gather()."""
        self.give_up_all("not waited for")
        transfers, reported = list(self._transfers.values()), Artifacts()
        files: list[str] = []
        for transfer in transfers:
            try:
                files += self._add(transfer, reported)
            except ReadError as error:
                transfer.complain(str(error))
        sources = [transfer.source for transfer in transfers]
        return Arrived(
            frozenset(rank for source in sources if not source.shared for rank in source.ranks),
            reported,
            tuple(files),
            tuple(line for transfer in transfers for line in transfer.named(transfer.problems)),
            tuple(line for transfer in transfers for line in transfer.named(transfer.notes)),
            tuple(HostRunDir(self._run.path, source.name).own / "files" for source in sources),
            {rank: source.name for source in sources for rank in source.ranks},
            frozenset(pair for transfer in transfers for pair in transfer.elsewhere),
        )

    def _add(self, transfer: _Transfer, reported: Artifacts) -> list[str]:
        """Add the sets that a host has offered, of the files that came; return those found by pattern."""
        offer = transfer.offer
        if offer is None:
            return []
        for item in offer.get("checkpoints").items():
            reported.checkpoints.append(self._set(transfer, item))
        for item in offer.get("predictions").items():
            reported.predictions.append(self._set(transfer, item))
        for name, value in offer.get("metrics").members().items():
            reported.metrics[name] = number(value)
        return [str(self._run.path / path) for path in offer.get("files").texts() if path in transfer.came]

    def _set(self, transfer: _Transfer, item: Value) -> FileSet:
        source, paths, prefix = transfer.source, item.get("files").texts(), item.get("prefix").text()
        here = [str(self._run.path / self._place(source, path)) for path in paths if path in transfer.came]
        rank = item.get("rank").whole()
        if rank not in source.ranks:
            item.get("rank").refuse(f"rank {rank}", "a rank of that host")
        whole = item.get("complete").flag() and len(here) == len(paths)
        place = str(self._run.path / self._place(source, prefix)) if prefix else ""
        return FileSet(rank, tuple(here), place, item.get("step").whole(), {}, whole)


def _hidden(index: int) -> str:
    return f".incoming-{index}"


def _append(folder: int, name: str, data: bytes, coming: _Coming) -> None:
    begins = coming.written == 0
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if begins:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        flags |= os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb", buffering=0) as stream:
        rest = memoryview(data)
        while rest:
            rest = rest[stream.write(rest) or 0 :]
        if coming.written + len(data) == coming.size:
            os.fchmod(stream.fileno(), coming.mode)
    coming.digest.update(data)
    coming.written += len(data)
