"""The pages: templates on one base, filled in so that nothing in them acts or gives a secret away.

Whatever a template writes goes through `_Shown`: secrets are masked, and what a terminal or a browser would
obey is spelled out; Jinja then escapes it. The content security policy allows the page's own style and
script, by their hashes, and nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any, Sequence

from launcher.masking import secret_values
from launcher.page.scale import number
from launcher.page.shown import shown

FOLDER = "report"  # of templates/


def render(template: str, secrets: Sequence[str] = (), **context: Any) -> str:
    """Fill in templates/report/TEMPLATE. secrets: values that are masked wherever they stand."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("templates", FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_Shown((*secrets, *secret_values(os.environ))),
    )
    environment.filters.update(number=_number, size=size, drawn=Markup)
    style, script = (_source(environment, name) for name in ("style.css.j2", "script.js.j2"))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    own = {"style": Markup(style), "script": Markup(script), "policy": Markup(policy)}  # noqa: S704 - ours
    return str(environment.get_template(template).render(context, **own))


class _Shown:
    """What is done with each value before it is written."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = sorted(set(secrets), key=len, reverse=True)

    def __call__(self, value: Any) -> Any:
        text = isinstance(value, str) and not hasattr(value, "__html__")
        return shown(value, self._secrets) if text else value


def _source(environment: Any, name: str) -> str:
    return str(environment.loader.get_source(environment, name)[0])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _number(value: Any) -> str:
    """Write a number short, and anything else as it is."""
    return number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def size(value: Any) -> str:
    """Write a number of bytes; what is none is a dash.

    >>> size(999), size(176036384)
    ('999 B', '176 MB')
    """
    if not isinstance(value, (int, float)):
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.0f} TB"
