"""npu-launch doctor: check this machine, and write a bundle for a bug report."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import click

from launcher.checks import job_python
from launcher.checks.bundle import write_bundle
from launcher.checks.doctor import examine, report
from launcher.checks.finding import ERROR
from launcher.checks.machine import this_machine
from launcher.errors import PreflightError, UsageError
from launcher.output import echo, echo_json
from launcher.plan.command import executable


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of {name, level, what, todo}.")
@click.option("--bundle", metavar="FILE", help="Write a .tar.gz for a bug report; secrets are masked.")
@click.option(
    "--python", metavar="PATH", help="The Python of the jobs, as their key python; default: this one."
)
@click.option(
    "--run",
    "run_folder",
    metavar="DIR",
    default="",
    help="Add the plan and the report of this run to the bundle.",
)
def doctor(as_json: bool, bundle: str | None, python: str | None, run_folder: str) -> None:
    """Check versions, devices, network, limits, clock and disk of this machine.

    Each line is ok, a warning or an error, with what to do about it. Exit code 78 if there is an error.
    """
    machine = this_machine(os.environ, os.getcwd())
    if python:
        found = job_python.ask(executable(python, os.environ, os.getcwd()), os.environ)
        machine = this_machine(os.environ, os.getcwd(), found.version, found.paths)
    findings = examine(machine)
    if as_json:
        echo_json([asdict(finding) for finding in findings])
    else:
        echo(*report(findings))
    if bundle:
        try:
            members = write_bundle(bundle, machine, findings, run_folder)
        except OSError as error:
            raise UsageError(f"--bundle: {bundle}: {error.strerror}") from None
        echo(f"{bundle}: {', '.join(members)}; review it before you send it", err=True)
    if any(finding.level == ERROR for finding in findings):
        sys.exit(PreflightError.exit_code)
