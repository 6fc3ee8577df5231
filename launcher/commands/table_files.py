"""What the commands on rank tables share: options, reading and writing of tables, this host's devices."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Sequence, TypeVar

import click

from launcher.errors import LauncherError, PreflightError, UsageError
from launcher.output import echo, echo_document
from launcher.plan.devices import parse_devices
from launcher.run_dir import write_atomic
from rank_table import files
from rank_table.errors import InventoryError, RankTableError
from rank_table.inventory import CHIPS, Inventory, merge, virtual_cpu
from rank_table.table import LONGEST, RankTable

FOUND_ERRORS = 1  # exit code: HCCL would refuse the table
Made = TypeVar("Made")

chip_option = click.option(
    "--chip", type=click.Choice(CHIPS), default=None, help="Generation; default: as detected."
)
output_option = click.option(
    "-o", "--output", metavar="FILE", default="-", help="Write to FILE; default: stdout."
)
order_option = click.option(
    "--order", metavar="ID,ID,...", default="", help="Order of the server_ids; default: natural order."
)
server_id_option = click.option(
    "--server-id", metavar="ID", default="", help="Name of this host in the table."
)


class FindingsError(LauncherError):
    """A table that HCCL would refuse, and that is therefore not written."""

    exit_code = FOUND_ERRORS


@dataclass(frozen=True)
class Request:
    """The hosts and devices that `rank-table make` was asked for."""

    devices: str
    chip: str
    files: Sequence[str]  # inventory files
    virtual: bool
    order: str
    server_id: str


def or_usage_error(function: Callable[..., Made], *arguments: Any) -> Made:
    """Call a function of rank_table; an error in a user's file becomes one line and exit code 2."""
    try:
        return function(*arguments)
    except (RankTableError, InventoryError) as error:
        raise UsageError(f"{error}") from None


def piped(path: str) -> bytes:
    """Read what can be read once only: stdin, as `-`, or a pipe; empty for a file. OSError: no data came."""
    if path == "-":
        return sys.stdin.buffer.read(LONGEST + 1) or b" "
    return files.read_bytes(path, LONGEST) or b" " if files.is_pipe(path) else b""


def load(path: str) -> RankTable:
    """Read a rank table; `-` is stdin."""
    if path == "-":
        return or_usage_error(_of_stdin)
    return or_usage_error(RankTable.load, path)


def _of_stdin() -> RankTable:
    try:
        return RankTable.loads(sys.stdin.buffer.read(LONGEST + 1).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RankTableError(f"stdin: byte {error.start} is not UTF-8") from None
    except RankTableError as error:
        raise RankTableError(f"stdin: {error}") from None


def discover(chip: str, server_id: str) -> Inventory:
    """Find this host's devices."""
    from rank_table.sources import host
    from rank_table.sources.tools import Machine

    return host.discover(Machine(os.environ), server_id, chip)


def find(request: Request) -> Inventory:
    """Find the requested devices: virtual ones, those of inventory files, or this host's.

    Raises:
        PreflightError: there is none. InventoryError: an invalid file, or a device that is not there.
    """
    wanted = parse_devices(request.devices) if request.devices else ()
    if request.virtual:
        return virtual_cpu(wanted or (0,), request.server_id)
    found = _of_files(request) if request.files else discover(request.chip, request.server_id)
    if not any(host.devices for host in found.hosts):
        why = "; ".join(found.notes)
        raise PreflightError(f"no NPU on this machine ({why}); give --hosts FILE, or --virtual")
    return found.only(wanted) if wanted else found


def _of_files(request: Request) -> Inventory:
    from rank_table.sources import inventory_file

    found = merge([inventory_file.read(path) for path in request.files], split(request.order))
    if request.chip:
        found = replace(found, hosts=tuple(replace(host, chip=request.chip) for host in found.hosts))
    return found


def split(order: str) -> list[str]:
    """Split the value of --order."""
    return [name.strip() for name in order.split(",") if name.strip()]


def write(table: RankTable, output: str, chip: str = "") -> None:
    """Write a table that passes the check; its warnings go to stderr. FindingsError: HCCL would refuse it."""
    from rank_table.check import ERROR, check
    from rank_table.render import render

    text = or_usage_error(render, table)
    findings = check(text, chip, os.environ)
    for finding in findings:
        echo(f"npu-launch: {finding}", err=True)
    if any(finding.level == ERROR for finding in findings):
        raise FindingsError("the table is not written: HCCL would refuse it")
    if output == "-":
        echo_document(text)
        return
    if output.find(".json") != len(output) - len(".json"):
        raise UsageError(f"-o {output}: HCCL takes only a path whose first .json is its end")
    try:
        write_atomic(Path(output), text.encode())
        os.chmod(output, 0o644)  # every rank's user reads it
    except OSError as error:
        raise UsageError(f"-o {output}: {error.strerror}") from None
    echo(f"{output}: {table.world_size} ranks on {len(table.servers)} servers", err=True)
