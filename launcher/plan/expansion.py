"""$NAME in the job's `env`: replaced by a variable of the rank, of the shell, or of `env` itself above it."""

from __future__ import annotations

import re
from typing import Mapping

from launcher.config.job import Provenance

_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?::-(?P<default>[^{}]*))?\}"
    r"|(?P<shell>[({]))",
    re.ASCII,
)


class _Unknown(Exception):
    pass


def expand(
    variables: Mapping[str, str], rank: Mapping[str, str], shell: Mapping[str, str], provenance: Provenance
) -> dict[str, str]:
    """Return the variables of a job with each $NAME, ${NAME} and ${NAME:-default} replaced, $$ by a dollar.

    A name is sought in the variables before it, then in those of the rank, then in the shell's.

    Raises:
        ConfigError: a name is not set, or the text needs a shell.

    >>> expand({"A": "/x", "P": "$A/$RANK_ID:$P"}, {"RANK_ID": "3", "P": "/bin"}, {}, Provenance())["P"]
    '/x/3:/bin'
    """
    done: dict[str, str] = {}

    def value(match: re.Match[str]) -> str:
        if match.group("dollar"):
            return "$"
        if match.group("shell"):
            raise _Unknown(f"{match.group()!r} needs a shell, and none is run; write the value, or $$ for $")
        name = match.group("name") or match.group("braced")
        for known in (done, rank, shell):
            if name in known and (known[name] or match.group("default") is None):
                return known[name]
        if match.group("default") is None:
            advice = f"set it, or write ${{{name}:-}} for nothing where it is not, or $$ for $"
            raise _Unknown(f"${name} is not set; {advice}")
        return match.group("default")

    for name, text in variables.items():
        try:
            done[name] = _REFERENCE.sub(value, text) if "$" in text else text
        except _Unknown as error:
            raise provenance.error("env." + name, str(error)) from None
    return done
