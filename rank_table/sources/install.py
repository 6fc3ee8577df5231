"""Where the driver and CANN are installed: their own records and the variables of set_env.sh say so."""

from __future__ import annotations

import os
from typing import Callable, Mapping, Optional

DEFAULT = "/usr/local/Ascend"
RECORD = "/etc/ascend_install.info"  # written by the driver's installer: key=value lines
HOMES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")  # set by CANN's set_env.sh
Read = Callable[[str], Optional[str]]


def values(text: str) -> dict[str, str]:
    """Read `key=value` lines; blanks around both and a byte order mark do not count."""
    pairs = (line.split("=", 1) for line in text.lstrip("\ufeff").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def homes(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that name a CANN installation."""
    return {name: environ[name].rstrip("/") for name in HOMES if environ.get(name, "").startswith("/")}


def roots(environ: Mapping[str, str], read: Read) -> list[str]:
    """List the folders that may hold `driver`: the recorded one, those around CANN, the default."""
    recorded = values(read(RECORD) or "").get("Driver_Install_Path_Param", "").strip("\"'")
    found = [recorded] if recorded.startswith("/") else []
    for home in homes(environ).values():  # /opt/Ascend/cann-8.5.0, /opt/Ascend/ascend-toolkit/latest
        parent = os.path.dirname(home)
        found += [parent, os.path.dirname(parent)]
    unique = dict.fromkeys(folder.rstrip("/") for folder in (*found, DEFAULT))
    return [folder for folder in unique if folder]


def driver_folders(environ: Mapping[str, str], read: Read) -> list[str]:
    """List the folders that may be the driver's."""
    return [f"{root}/driver" for root in roots(environ, read)]
