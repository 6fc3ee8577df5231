"""Secrets, found by the names of their keys and by their own shapes, and masked before they are written.

A name is split at `_ - .` and at capitals (API_KEY, x-api-key, apiKey): one of its words tells that its value
is secret, unless another tells that it is not (num_key_value_heads, pad_token). Where something in between
cannot be decided, it is masked.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Mapping, Sequence

MASK = "***"

# Words that make a value secret when they are a whole word of its name ...
_WORDS = frozenset(
    "pass passwd password passphrase passcode pwd pat token secret secrets key sk ak auth oauth "
    "authorization cookie cookies webhook webhooks credential credentials cred creds private "
    "signature sig sas dsn jwt bearer otp psk pem salt".split()
)
# ... and those that do so at the end of a word: PGPASSWORD, SSHPASS, AUTHTOKEN.
_ENDINGS = ("password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "secretkey",
            "privatekey", "credential", "credentials", "cookie", "pass")  # fmt: skip
_NO_PASS = ("bypass", "compass", "multipass", "subpass", "onepass")
# Words beside which one of those is a number, a name, or a part of a model.
_HARMLESS = {
    "key": "value heads head dim size num public sort primary foreign len length max min layer proj "
    "query metric label text image signature def",
    "token": "eos bos pad unk mask cls sep special max min num per type count limit len length size "
    "embedding classification next start end stop image drop first last ids accuracy loss rate",
    "auth": "sock type method mode",
    "pass": "num rate fusion graph enable through forward backward count",
    "private": "thread threads threadpool",
    "signature": "def name key",
    "sig": "figs",
}
_BESIDE = {word: frozenset(others.split()) for word, others in _HARMLESS.items()}
_SHOWN_NAMES = frozenset(["PWD", "OLDPWD"])  # the shell's own folders
_SHOWN_PREFIXES = ("HCCL_",)
_SHOWN_VALUES = frozenset(["", "none", "null", "true", "false", "yes", "no", "on", "off", MASK])
# Words that occur alone in prose, before a colon: `key: unknown key`.
_PROSE = _WORDS - frozenset(["password", "passwd", "passphrase", "secret", "token", "credentials", "cookie"])

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_REFERENCE = re.compile(r"\$\w+|\$\{\w+\}")
_ASSIGNED = re.compile(r"-{0,2}([A-Za-z_][\w.-]*)=", re.ASCII)
_OPTION = re.compile(r"--?([A-Za-z][\w.-]*)", re.ASCII)
_FIELD = re.compile(r"(?<![\w.$-])(-{0,2})([A-Za-z_][\w.-]*)([\"']?)(\s*=(?!=)\s*|\s*:(?!//)\s*)", re.ASCII)
_DASHED = re.compile(
    r"(?<![\w-])(--?([A-Za-z][\w.-]*)\s+)(?!-)(?:\"[^\"]*\"|'[^']*'|[^\s\"']|[\"'])+?(?=\s|\Z)", re.ASCII
)
_QUOTED = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;)\]}"'])+""")
_SCHEME = re.compile(r"(?i)(?:bearer|basic|digest|token|negotiate)\s+(?=\S)")
_HARMLESS_VALUE = re.compile(r"(?i)(?:none|null|true|false|yes|no|on|off|\"\"|'')?\s*(?:[,;)\]}]|$)")
_QUERY = re.compile(r"([?&;])([\w.~%-]+)=([^&\s\"'#<>]+)", re.ASCII)
# (a text that each of them holds, the shape, what is written instead)
_SHAPES = (
    ("PRIVATE KEY", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*-----|\Z)", MASK),
    ("://", r"(\w://[^/\s:@\"']*:)[^/\s\"']*@", rf"\1{MASK}@"),
    ("://", r"(https?://)[^/\s:@\"']+@", rf"\1{MASK}@"),
    ("earer", r"(\b[Bb]earer\s+)[\w.~+/=-]+", rf"\1{MASK}"),
    ("asic", r"(\b[Bb]asic\s+)(?=\S*[A-Z0-9=])[A-Za-z0-9+/]{8,}=*", rf"\1{MASK}"),
    ("hook", r"(hooks\.slack\.com/services/|/bot/v2/hook/|/webhook/send\?)\S+", rf"\1{MASK}"),
    ("password ", r"(\blogin \S+\s+(?:account \S+\s+)?password\s+)\S+", rf"\1{MASK}"),  # netrc(5)
    ("-u ", r"((?<![\w-])-u [^\s:\"']+:)(?!\d+\b)[^\s\"']+", rf"\1{MASK}"),  # curl(1), not docker's ids
    ("gh", r"(?<![\w-])(?:gh[oprsu]_|github_pat_)\w{16,}", MASK),
    ("hf_", r"(?<![\w-])hf_[A-Za-z0-9]{16,}", MASK),
    ("glpat-", r"(?<![\w-])glpat-[\w-]{16,}", MASK),
    ("A", r"(?<![\w-])(?:(?:AKIA|ASIA)[0-9A-Z]{12,}|LTAI[A-Za-z0-9]{12,}|AIza[\w-]{30,})", MASK),
    ("sk-", r"(?<![\w-])sk-[\w-]{16,}", MASK),
    ("xox", r"(?<![\w-])xox[a-z]-[\w-]{10,}", MASK),
    ("npm_", r"(?<![\w-])npm_[A-Za-z0-9]{30,}", MASK),
    ("pypi-", r"(?<![\w-])pypi-[\w-]{30,}", MASK),
    ("eyJ", r"(?<![\w-])eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?", MASK),
)


@lru_cache(maxsize=1024)  # the names of a run's ranks and files are the same, again and again
def is_secret(name: str) -> bool:
    """Tell whether the value under a name is a secret.

    >>> [is_secret(name) for name in ("OBS_SK", "apiKey", "PGPASSWORD", "MONKEY", "pad_token", "PWD")]
    [True, True, True, False, False, False]
    """
    if name in _SHOWN_NAMES or name.startswith(_SHOWN_PREFIXES):
        return False
    words = [word.lower() for word in _WORD.findall(name)]
    return any(_tells(word, words) for word in words)


def _tells(word: str, words: Sequence[str]) -> bool:
    if "error" in words:  # KeyError
        return False
    if word in _WORDS:
        return not _BESIDE.get(word, frozenset()).intersection(words)
    return word.endswith(_ENDINGS) and word not in _NO_PASS


def mask(value: Any) -> Any:
    """Return a document of mappings, lists and texts with its secrets masked.

    A list is also a command line: `--password x`, `--token=x`, `api_key=x`. In a mapping of `name` and
    `value` the name decides.
    """
    if isinstance(value, Mapping):
        named = value.get("name")
        if isinstance(named, str) and "value" in value and is_secret(named):
            value = dict(value, value=_hidden(value["value"]))
        return {key: _hidden(item) if is_secret(str(key)) else mask(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _mask_words(value)
    return mask_text(value) if isinstance(value, str) else value


def _hidden(value: Any) -> Any:
    """Mask everything under a secret name but true, false, nothing, a fraction, and a reference ($TOKEN)."""
    if isinstance(value, Mapping):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(item) for item in value]
    if value is None or isinstance(value, (bool, float)):
        return value
    text = str(value)
    return value if text.lower() in _SHOWN_VALUES or _REFERENCE.fullmatch(text) else MASK


def _mask_words(words: Sequence[Any]) -> list[Any]:
    masked: list[Any] = []
    secret = False  # the word before is an option whose value is secret
    for word in words:
        option = _OPTION.fullmatch(word) if isinstance(word, str) else None
        masked.append(MASK if secret and option is None else _mask_word(word))
        secret = option is not None and is_secret(option.group(1))
    return masked


def _mask_word(word: Any) -> Any:
    assigned = _ASSIGNED.match(word) if isinstance(word, str) else None
    if assigned and is_secret(assigned.group(1)):
        return word[: assigned.end()] + str(_hidden(word[assigned.end() :]))
    return mask(word)


def mask_text(text: str) -> str:
    """Return a free text with its secrets masked: `name: value` and `name=value` up to the value's end.

    A quoted value ends with its quotes, that of an option with its word, any other with its line; so does
    one in a line of its own, as `env` lists them.
    """
    return _mask_short(text) if len(text) < 1 << 12 else _mask_any(text)


def _mask_any(text: str) -> str:
    for hint, pattern, replacement in _SHAPES:
        if hint in text:
            text = re.sub(pattern, replacement, text)
    if "-" in text:
        text = _DASHED.sub(_mask_option, text)
    if "=" in text:
        text = _QUERY.sub(_mask_query, text)
    if "=" in text or ":" in text:
        return "\n".join(map(_mask_line, text.split("\n")))
    return text


_mask_short = lru_cache(maxsize=1024)(_mask_any)  # the environments of a run's ranks are nearly the same


def _mask_query(match: re.Match[str]) -> str:
    before, name, value = match.groups()
    return f"{before}{name}={MASK if is_secret(name) else value}"


def _mask_option(match: re.Match[str]) -> str:
    return match.group(1) + MASK if is_secret(match.group(2)) else match.group()


def _mask_line(line: str) -> str:
    place = 0
    parts: list[str] = []
    for match in _FIELD.finditer(line):
        if match.start() < place:  # inside a value
            continue
        parts.append(line[place : match.end()])
        place = match.end()
        if _names_a_secret(line, match):
            scheme = _SCHEME.match(line, place)
            shown = scheme.group() if scheme else ""
            end = _value_end(line, match)
            quote = line[place] if line[place] in "\"'" and line[end - 1 : end] == line[place] else ""
            parts.append(f"{shown}{quote}{MASK}{quote}")
            place = end
    return "".join([*parts, line[place:]])


def _names_a_secret(line: str, match: re.Match[str]) -> bool:
    name = match.group(2)
    masked = line.startswith(MASK, match.end())
    if masked or not is_secret(name) or _HARMLESS_VALUE.match(line, match.end()):
        return False
    before = line[: match.start()].strip(" \t-#{[(,\"'")
    return not (before and ":" in match.group(4) and not match.group(3) and name.lower() in _PROSE)


def _value_end(line: str, match: re.Match[str]) -> int:
    start = match.end()
    listed = not line[: match.start()].strip() and "=" in match.group(4)  # by `env`: as it stands
    quoted = None if listed else _QUOTED.match(line, start)
    if quoted and line[start] in "\"'":
        return quoted.end()
    return start + len(line[start:].split(maxsplit=1)[0]) if match.group(1) else len(line)


def secret_values(environ: Mapping[str, str], argv: Sequence[str] = ()) -> list[str]:
    """List the secrets of an environment and a command that are long enough to be sought in other texts.

    The longest is first.
    """
    found = {value for name, value in environ.items() if _hidden(value) == MASK and is_secret(name)}
    for word, masked in zip(argv, mask(list(argv))):
        before, hidden, after = masked.partition(MASK)
        if hidden and word != masked and word.startswith(before) and word.endswith(after):
            found.add(word[len(before) : len(word) - len(after)])
    return sorted((value for value in found if len(value) >= 8), key=len, reverse=True)
