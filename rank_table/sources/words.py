"""What a tool says when it fails: its own words, and what the vendor's codes in them mean."""

from __future__ import annotations

import re

LONGEST = 200  # characters of a line
BUSY = re.compile(r"(?i)\bbusy\b|try again|temporarily unavailable|device is used")
_CODE = re.compile(r"(?:ret(?:urn)?(?:\s+code)?(?:\s+is|:|=)?|code)\s*:?\s*(-[89][0-9]{3})\b")
# DCMI's error codes (dcmi_interface_api.h of the driver), with what public reports name as their cause.
CODES = {
    "-8001": "the command is not one that this version knows",
    "-8002": "not permitted: join the group HwHiAiUser, or run as root",
    "-8005": "the driver does not answer: another container may own the device, this user may lack the group "
    "HwHiAiUser, the driver may not be mounted here, or was upgraded without a reboot",
    "-8006": "the driver took too long: the device may hang",
    "-8007": "no such device",
    "-8008": "no such device",
    "-8009": "the driver refused the call: its version may differ from that of the mounted libraries",
    "-8012": "the device is not ready: it is starting, or has failed to start",
    "-8013": "not possible in a container: ask on the host",
    "-8015": "the device could not be reset",
    "-8017": "the device is being upgraded: wait until that ends",
    "-8020": "another container or process owns the device: stop it, or give this container other devices",
    "-8255": "this product cannot do that",
    "-9005": "the device may not be opened: mount /dev/davinciN, davinci_manager, devmm_svm and hisi_hdc",
}


def reason(text: str) -> str:
    """Return what a tool printed as one line: its last line, and its first one if that is another.

    The tools print the reason last, often after a banner of the driver.

    >>> reason("DrvMngGetConsoleLogLevel failed. (ret=4)\\ndcmi module initialize failed. ret is -8255\\n")
    'dcmi module initialize failed. ret is -8255 (first: DrvMngGetConsoleLogLevel failed. (ret=4))'
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "nothing"
    last, first = lines[-1][:LONGEST], lines[0][:LONGEST]
    return last if last == first else f"{last} (first: {first})"


def explained(text: str) -> str:
    """Return `reason` followed by what the codes in the text mean."""
    codes = dict.fromkeys(code for code in _CODE.findall(text[-4000:]) if code in CODES)
    if not codes and re.search(r"(?i)permission denied", text):
        return f"{reason(text)}: join the group HwHiAiUser, or run as root"
    meanings = "; ".join(CODES[code] if len(codes) == 1 else f"{code}: {CODES[code]}" for code in codes)
    return f"{reason(text)}: {meanings}" if meanings else reason(text)
