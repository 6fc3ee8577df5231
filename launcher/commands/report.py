"""npu-launch report: write the page of a run."""

from __future__ import annotations

from pathlib import Path

import click

from launcher.errors import UsageError
from launcher.output import echo
from launcher.run_dir import write_output
from launcher.runs import registry


@click.command()
@click.argument("run", default="")
@click.option("-o", "--output", metavar="FILE", help="Write it there, not to report.html in the run folder.")
@click.option(
    "--runs-dir", metavar="DIR", default="runs", show_default=True, help="Folder that holds the run folders."
)
def report(run: str, output: str | None, runs_dir: str) -> None:
    """Write the page of a run: what ran, what happened, its curves, who was slow. RUN: the last one.

    One HTML file that needs no network. A run writes its page when it ends; this writes it again, or that of
    a run which goes on, or whose launcher was killed.
    """
    from launcher.page import run_page

    found = registry.resolve(run, runs_dir)
    path = Path(output) if output else found.path / run_page.NAME
    try:
        if output:
            write_output(path, run_page.page(found).encode("utf-8", "backslashreplace"))
        else:
            run_page.write(found)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
    echo(str(path))
