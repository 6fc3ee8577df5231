"""The last lines of a rank's log."""

from __future__ import annotations

from launcher.errors import LauncherError
from launcher.run_dir import RunDir
from launcher.text import printable
from launcher.view.follow import stamp_of

LARGEST = 256  # characters of a line


class LogLines:
    """The end of the log of a rank, read again when it has grown."""

    def __init__(self, run: RunDir, rank: int) -> None:
        self.rank, self._run = rank, run
        self._seen: tuple[object, ...] = ()
        self._lines: list[str] = []

    def lines(self, width: int, height: int) -> list[str]:
        """Return the last lines, as many as fit."""
        seen = (stamp_of(self._run.log(self.rank)), height)
        if seen != self._seen and height > 0:
            self._seen = seen
            try:
                self._lines = self._read(height)
            except (LauncherError, OSError) as error:
                self._lines = [f"the log of rank {self.rank} cannot be read: {error}"]
        return [printable(line)[:width] for line in self._lines[-height:]] or ["no line yet"]

    def _read(self, count: int) -> list[str]:
        from launcher.logs import format
        from launcher.logs.view import LogSource, Query, show

        batches = show([LogSource(self._run.path)], Query(ranks=(self.rank,), tail=count), follow=False)
        render = format.TextFormat()
        data = b"".join(render(batch) for batch in batches if batch)
        return data.decode("utf-8", "replace").splitlines()
