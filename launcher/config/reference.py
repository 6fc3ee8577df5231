"""The reference of train.yaml as a Markdown table, generated from the dataclass that reads it."""

from __future__ import annotations

import dataclasses
from typing import Any

from launcher.config.job import JobConfig

KINDS = {"str": "text", "int": "whole number", "float": "number", "bool": "true, false"}


def yaml_reference() -> str:
    """Write a row for every key of a job: its type, its default, its meaning."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(JobConfig):
        kind, meaning = _kind(str(field.type)), field.metadata["help"]
        rows.append(f"| `{field.name}` | {kind} | {_default(field)} | {meaning} |")
    return "\n".join(rows)


def _kind(annotation: str) -> str:
    if annotation.startswith("list"):
        return "list"
    if "|" in annotation:
        return "text or list"
    return KINDS.get(annotation, "mapping")


def _default(field: Any) -> str:
    if field.default is dataclasses.MISSING or field.default == "":
        return ""
    value = field.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    print(yaml_reference())
