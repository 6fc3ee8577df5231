"""Check a rank table by HCCL's own rules and by those of its documentation."""

from __future__ import annotations

import os
from typing import Any, Mapping

from rank_table import files
from rank_table.errors import RankTableError
from rank_table.inventory import CHIPS
from rank_table.rules import document_kind, host_and_process, legacy, recommendations, syntax, v1, v1_1, v2
from rank_table.rules.finding import ERROR, WARNING, Report, RuleFinding
from rank_table.rules.super_pods import super_pods
from rank_table.table import LONGEST, RankTable

__all__ = ["ERROR", "WARNING", "RuleFinding", "check", "check_file", "check_host", "check_process", "worst"]


def check(
    source: str | bytes | RankTable, chip: str = "", environ: Mapping[str, str] | None = None
) -> list[RuleFinding]:
    """Check a text, or a table as it would be written; errors come first, without one HCCL accepts it.

    `chip` is 910A, A2, A3 or 950; without it, a rule of one generation is a warning while the table may be
    for another. `environ`: HCCL_INTRA_ROCE_ENABLE and HCCL_INTER_HCCS_DISABLE change what is required.
    No text makes it raise; time is linear in the length of the text.
    """
    if isinstance(source, RankTable):
        from rank_table.render import render

        source = render(source)
    report = _report(chip, environ)
    _check_text(source, report)
    return report.done()


def check_file(path: str, chip: str = "", environ: Mapping[str, str] | None = None) -> list[RuleFinding]:
    """Check a file: its name as HCCL requires it, then its text. OSError: it cannot be read."""
    report = _report(chip, environ)
    if not files.is_pipe(path):  # what a shell makes of <(command) has no name that HCCL would read
        _check_name(path, report)
    if files.is_device(path):
        report.error("file.kind", "", path, "not a regular file", "give a file, or - for stdin")
        return report.done()
    _check_text(files.read_bytes(path, LONGEST), report)
    return report.done()


def check_host(table: RankTable, host: Any) -> list[RuleFinding]:
    """Compare the table with a host's devices (rule 22): ids, addresses, super_device_ids."""
    report = Report()
    host_and_process.check_host(table, host, report)
    return report.done()


def check_process(
    table: RankTable, environ: Mapping[str, str], physical: int | None = None
) -> list[RuleFinding]:
    """Compare the table with a process (rules 13 to 15): RANK_ID, and the physical id of its device."""
    report = Report()
    host_and_process.check_process(table, environ, physical, report)
    return report.done()


def worst(findings: list[RuleFinding]) -> str:
    """Return the highest level among the findings: "error", "warning" or ""."""
    levels = {finding.level for finding in findings}
    return ERROR if ERROR in levels else WARNING if WARNING in levels else ""


def _report(chip: str, environ: Mapping[str, str] | None) -> Report:
    if chip and chip not in CHIPS:
        raise RankTableError(f"chip {chip}: unknown chip (expected {', '.join(CHIPS)})")
    return Report(chip, environ)


def _check_name(path: str, report: Report) -> None:
    """Check the path as HCCL does: the first ".json" in it must be its end."""
    todo = "rename the file, or its folder"
    if not _is_json_name(path):
        message = "the first .json of the path must be its end (not a valid .json file)"
        report.error("file.name", "", path, message, todo)
    elif not _is_json_name(os.path.abspath(path)):
        message = "the absolute path has another .json before its end, which HCCL refuses"
        report.warning("file.name", "", os.path.abspath(path), message, todo)
    if os.path.islink(path):
        report.warning("file.symlink", "", path, "a symbolic link: torch_npu refuses it", "copy the file")


def _is_json_name(path: str) -> bool:
    return path.find(".json") == len(path) - len(".json")


def _check_text(source: str | bytes, report: Report) -> None:
    document = syntax.parse(source, report)
    if document is syntax.NOTHING:
        return
    layout = document_kind.layout(document, report)
    if not layout:
        return
    _status(document, layout, report)
    if layout in ("1.0", "1.2"):
        view = v1.View(document, report)
        for rule in (*v1.RULES, super_pods, *recommendations.RULES):
            rule(view, report)
    elif layout == "1.1":
        v1_1.check(document, report)
    elif layout == "2.0":
        v2.check(document, report)
    elif layout in ("cloud", "lab"):
        legacy.check(document, report, layout == "lab")


def _status(document: Mapping[str, Any], layout: str, report: Report) -> None:
    status = document.get("status")
    if status is None:
        if layout != "2.0":
            report.error("status.missing", "status", None, "missing", 'write "status": "completed"')
    elif not isinstance(status, str):
        if layout != "2.0":
            report.error("scalar.string", "status", status, "not a string", 'write "status": "completed"')
    elif status != "completed":
        message = "HCCL reads the file again every second for 30 minutes, then gives up (HCCL_E_TIMEOUT)"
        report.error(
            "status.waiting", "status", status, message, "wait until the platform has written completed"
        )
