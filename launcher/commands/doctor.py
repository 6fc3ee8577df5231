"""npu-launch doctor: look the machine over, and pack a bundle for a bug report."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import click

from launcher.checks import doctor as rooms
from launcher.checks.bundle import write_bundle
from launcher.checks.finding import ERROR
from launcher.checks.machine import this_machine
from launcher.errors import PreflightError, UsageError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of {name, level, what, todo}.")
@click.option("--bundle", metavar="FILE", help="Write a .tar.gz for a bug report; secrets are masked.")
@click.option(
    "--run", "run_folder", metavar="DIR", default="", help="Put this run's plan and report into the bundle."
)
def doctor(as_json: bool, bundle: str | None, run_folder: str) -> None:
    """Check versions, devices, network, limits, clock and disk of this machine.

    Every line is ok, a warning or an error, with what to do. Exit code 78 when there is an error.
    """
    machine = this_machine(os.environ, os.getcwd())
    findings = rooms.examine(machine)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        rooms.print_report(findings, sys.stdout)
    if bundle:
        try:
            members = write_bundle(bundle, machine, findings, run_folder)
        except OSError as error:
            raise UsageError(f"--bundle: {bundle}: {error.strerror}") from None
        click.echo("{}: {}; look it over before you send it".format(bundle, ", ".join(members)), err=True)
    if any(finding.level == ERROR for finding in findings):
        sys.exit(PreflightError.exit_code)
