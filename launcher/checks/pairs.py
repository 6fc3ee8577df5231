"""Which CANN a release of torch_npu, MindSpore or Paddle's plugin was made for, as their makers publish it.

A release that is not here is newer than these tables, or a build of the user's own: nothing is said against
it.
"""

from __future__ import annotations

import re
from itertools import chain

# CANN -> the torch_npu made for it. Ascend/pytorch COMPATIBILITY.en.md (9e73e708a, 2026-08), README.md
# (006ca0029), and README.md at gitcode.com/Ascend/pytorch for 2.10.0.
TORCH_NPU: dict[str, tuple[str, ...]] = {
    "9.1.0": ("2.12.0", "2.11.0", "2.10.0.post4", "2.9.0.post6", "2.7.1.post8"),
    "9.0.0": ("2.10.0", "2.9.0.post2", "2.8.0.post4", "2.7.1.post4"),
    "8.5.0": ("2.9.0", "2.8.0.post2", "2.7.1.post2", "2.6.0.post5"),
    "8.3.RC1": ("2.8.0", "2.7.1", "2.6.0.post3", "2.1.0.post17"),
    "8.2.RC1": ("2.6.0", "2.5.1.post1", "2.1.0.post13"),
    "8.1.RC1": ("2.5.1", "2.4.0.post4", "2.3.1.post6", "2.1.0.post12"),
    "8.0.0": ("2.4.0.post2", "2.3.1.post4", "2.1.0.post10"),
    "8.0.RC3": ("2.4.0", "2.3.1.post2", "2.1.0.post8"),
    "8.0.RC2": ("2.3.1", "2.2.0.post2", "2.1.0.post6", "1.11.0.post14"),
    "8.0.RC1": ("2.2.0", "2.1.0.post4", "2.1.0.post3", "1.11.0.post11"),
    "7.0.0": ("2.1.0", "2.0.1.post1", "1.11.0.post8"),
    "7.0.RC1": ("2.1.0rc1", "2.0.1", "1.11.0.post4"),
}
# torch_npu made for one of the first runs on any of the second: hiascend.com Pytorch/720/releasenote/
# releasenote_0005 (releases 6.0.0 to 7.2.0), Ascend/pytorch docs/zh/release_notes.md (7.3 to 26.1).
TORCH_NPU_ALSO: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("8.0.0", "8.1", "8.2", "8.3"), ("8.0.RC2", "8.0.RC3", "8.0.0", "8.1", "8.2", "8.3")),
    (("8.5", "9.0", "9.1"), ("8.5", "9.0", "9.1")),
)
# MindSpore -> CANN. mindspore.cn/mindformers/docs/en/r1.9.0/installation.html; 2.6.0: ascend-deployer's
# version_match.json; 2.1.0: hiascend.com quick-installation 23.0.RC2.
MINDSPORE: dict[str, str] = {
    "2.9.0": "9.0.0",
    "2.7.2": "8.5.0",
    "2.7.1": "8.3.RC1",
    "2.7.0": "8.2.RC1",
    "2.6.0": "8.2.RC1",
    "2.6.0rc1": "8.1.RC1",
    "2.4.10": "8.0.0",
    "2.4.0": "8.0.RC3",
    "2.3.0": "8.0.RC2",
    "2.1.0": "6.3.RC2",
}
# paddle-custom-npu -> CANN, where its own file does not say it: paddlepaddle.org.cn/documentation/docs/zh/
# hardware_support/npu/install_cn.html.
PADDLE: dict[str, str] = {"3.0.0": "8.0.0"}
_RELEASE = re.compile(r"(\d+\.\d+\.(?:RC\d+|\d+))(?:$|\.|-)", re.IGNORECASE)


def release(text: str) -> str:
    """Return the release of CANN in a version: 8.0.RC3 of 8.0.RC3.beta1; "" for another numbering.

    Up to CANN 8.1 a part's own version.info counts apart (7.6.0.1.220 is of 8.0.0).
    """
    found = _RELEASE.match(text)
    if found is None or re.match(r"[0-7]\.\d+\.\d+\.\d", text):
        return ""
    return found.group(1).upper()


def is_newer(cann: str) -> bool:
    """Tell whether a release of CANN is newer than those of the tables, so that they say nothing of it."""
    return _series(cann) > max(map(_series, TORCH_NPU))


def _series(cann: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", cann)[:2])


def cann_of_torch_npu(version: str) -> str:
    """Return the CANN that a torch_npu was made for; "" when the table has not got it."""
    return next((cann for cann, made in TORCH_NPU.items() if version in made), "")


def runs_on(made_for: str, cann: str) -> bool:
    """Tell whether a torch_npu made for one CANN runs on another."""
    if made_for == cann:
        return True
    return any(_among(made_for, first) and _among(cann, second) for first, second in TORCH_NPU_ALSO)


def torch_npu_for(torch: str, cann: str) -> str:
    """Return the torch_npu made for a torch and a CANN, else the newest that runs; "" when none does."""
    every = [name for name in chain(*TORCH_NPU.values()) if name.partition(".post")[0] == torch]
    runs = [name for name in every if runs_on(cann_of_torch_npu(name), cann)]
    return next((name for name in runs if name in TORCH_NPU.get(cann, ())), (runs or [""])[0])


def _among(version: str, series: tuple[str, ...]) -> bool:
    return any(version == one or version.startswith(one + ".") for one in series)
