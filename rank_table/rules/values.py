"""Single values: texts, numbers, addresses, ports; each is checked where it is read."""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from rank_table.rules.finding import Report
from rank_table.sources.hccn import is_address

Item = Mapping[str, Any]
MOST = 0xFFFFFFFF
_TOLERATED = re.compile(r"\s*\+?([0-9]{1,10})")
_PLACEHOLDER = re.compile(
    r"\{.*\}\Z|\$\(?\w+|<.*>\Z|%\w\Z|.*\bxx+\b|xx*\Z|.*\*|[-.]+\Z", re.IGNORECASE | re.DOTALL
)


def text(report: Report, item: Item, key: str, path: str) -> str | None:
    """Read a value that must be a string in 1.x; None when it is missing or unusable."""
    value = item.get(key)
    if value is None or type(value) is str:
        return value
    where = join(path, key)
    if isinstance(value, (dict, list)):
        report.error("scalar.string", where, value, "not a string", f'write "{key}": "..."')
        return None
    written = str(value).lower() if isinstance(value, bool) else str(value)
    report.error("scalar.string", where, value, "not a string", f'write "{key}": "{written[:40]}"')
    return written


def number(report: Report, rule: str, item: Item, key: str, path: str) -> int | None:
    """Read a number in a string, as HCCL's stoull does: leading blanks, a + and a tail are ignored."""
    value = text(report, item, key, path)
    if value is None:
        if item.get(key) is None:
            report.error(rule, join(path, key), None, "missing", f"write {key}")
        return None
    if value.isdigit() and len(value) <= 10 and value.isascii():
        found = int(value)
        if found <= MOST:
            return found
    return _odd_number(report, rule, value, join(path, key))


def _odd_number(report: Report, rule: str, value: str, where: str) -> int | None:
    match = _TOLERATED.match(value)
    if (
        match
        and value[match.end() : match.end() + 1] not in tuple("0123456789")
        and int(match.group(1)) <= MOST
    ):
        report.warning("number.text", where, value, f"HCCL reads {match.group(1)}", "write digits only")
        return int(match.group(1))
    report.error(rule, where, value, f"not a number from 0 to {MOST}{hint(value)}", "write digits only")
    return None


def address(report: Report, value: str, where: str) -> bool:
    """Check whether a text is an address, and report it when it is not."""
    if is_address(value):
        return True
    report.error(
        "ip.invalid", where, value, f"neither IPv4 nor IPv6{hint(value)}", "write the port's address"
    )
    return False


def addresses(report: Report, item: Item, key: str, path: str) -> list[str]:
    """Read a comma list of addresses; empty when the key is missing or empty."""
    value = item.get(key)
    if type(value) is not str:
        value = text(report, item, key, path)
    if not value:
        return []
    if "," not in value:
        return [value] if address(report, value, join(path, key)) else []
    return [part for part in value.split(",") if address(report, part, join(path, key))]


def port(report: Report, item: Item, key: str, path: str) -> int | None:
    """Read an optional port: 1 to 65535, and above 1023 by the documentation."""
    if item.get(key) is None:
        return None
    value = number(report, "port.range", item, key, path)
    if value is None:
        return None
    if not 1 <= value <= 65535:
        report.error(
            "port.range", join(path, key), item[key], "not a port", "write 1024 to 65535, or leave it out"
        )
        return None
    if value < 1024:
        report.warning("doc.port", join(path, key), item[key], "a well-known port", "write 1024 to 65535")
    return value


def name(
    report: Report, rule: str, item: Item, key: str, path: str, longest: int, empty: bool = False
) -> str:
    """Read a text of limited length; "" when it cannot be used."""
    value = text(report, item, key, path)
    if not value and empty:
        return ""
    if not value:
        problem = "missing" if item.get(key) is None else "empty"
        report.error(rule, join(path, key), item.get(key), problem, f"write 1 to {longest} characters")
        return ""
    if len(value) > longest:
        message = f"{len(value)} characters; HCCL accepts {longest}"
        report.error(rule, join(path, key), value, message, "shorten it")
    return value


def objects(report: Report, rule: str, item: Item, key: str, path: str) -> list[tuple[str, Item]]:
    """Read a list of objects that must not be empty: [(JSON path, object)]."""
    where = join(path, key)
    values = item.get(key)
    if not isinstance(values, list) or not values:
        problem = "missing" if values is None else "empty" if isinstance(values, list) else "not a list"
        report.error(rule, where, values, problem, "write a list of objects")
        return []
    found: list[tuple[str, Item]] = []
    for index, value in enumerate(values):
        here = f"{where}[{index}]"
        if isinstance(value, dict):
            found.append((here, value))
        else:
            report.error(rule, here, value, "not an object", "write an object")
    return found


def count(report: Report, rule: str, item: Item, key: str, path: str, actual: int, of: str) -> None:
    """Compare a count with what is there."""
    if item.get(key) is None:
        return
    value = number(report, rule, item, key, path)
    if value is not None and value != actual:
        report.error(rule, join(path, key), item[key], f"{actual} {of} are listed", f'write "{actual}"')


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def hint(value: str) -> str:
    """Return a remark when a value looks like a mask or a placeholder."""
    return " (a mask, or a placeholder that was not filled in)" if _PLACEHOLDER.match(value[:200]) else ""


def repeated(values: Sequence[Any]) -> bool:
    """Check whether there are duplicate values."""
    return len(set(values)) != len(values)
