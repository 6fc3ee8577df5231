"""The reference of train.yaml as a Markdown table, made from the dataclass that reads it."""

from __future__ import annotations

import dataclasses
from typing import Any

from launcher.config.job import JobConfig

KINDS = {"str": "text", "int": "whole number", "float": "number", "bool": "true, false"}


def yaml_reference() -> str:
    """Render every key of a job: its type, its default, its meaning."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(JobConfig):
        rows.append("| `{}` | {} | {} | {} |".format(
            field.name, _kind(str(field.type)), _default(field), field.metadata["help"]))  # fmt: skip
    return "\n".join(rows)


def _kind(annotation: str) -> str:
    if annotation.startswith("List"):
        return "list"
    if annotation.startswith("Union"):
        return "text or list"
    return KINDS.get(annotation, "mapping")


def _default(field: Any) -> str:
    if field.default is dataclasses.MISSING or field.default == "":
        return ""
    value = field.default
    return "`%s`" % (str(value).lower() if isinstance(value, bool) else f"{value:g}"
                     if isinstance(value, float) else value)  # fmt: skip


if __name__ == "__main__":
    print(yaml_reference())
