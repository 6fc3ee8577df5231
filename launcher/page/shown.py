"""What others wrote, harmless before it is shown: secrets masked, what a browser would obey spelled out."""

from __future__ import annotations

from typing import Any, Sequence

from launcher.masking import MASK, mask, mask_text
from launcher.text import printable

_DEEPEST = 20
_LONGEST = 300  # characters of a text in a document


def shown(text: str, secrets: Sequence[str] = ()) -> str:
    """Return a text of several lines without secrets; `secrets` are values that are masked anywhere."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return "\n".join(map(printable, mask_text(text).split("\n")))


def shown_document(value: Any, secrets: Sequence[str] = ()) -> Any:
    """Do the same to a document of objects and lists, where names tell of secrets, too."""
    return _deep(mask(value), secrets, _DEEPEST)


def _deep(value: Any, secrets: Sequence[str], depth: int) -> Any:
    if isinstance(value, str):
        text = shown(value, secrets)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    if isinstance(value, (dict, list)) and not depth:
        return "…"
    if isinstance(value, dict):
        return {shown(str(key), secrets): _deep(item, secrets, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_deep(item, secrets, depth - 1) for item in value]
    return value
