"""The distributions of each framework, by the names of the folders that pip leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping


@dataclass(frozen=True)
class Packages:
    """The distributions of a framework.

    own: those that hold it, in the order in which they count; a second one may have the part for NPUs in it.
    npu: those of its part for NPUs.
    """

    own: tuple[str, ...]
    npu: tuple[str, ...] = ()

    @property
    def every(self) -> tuple[str, ...]:
        """What must be of one version on all hosts of a job."""
        return self.own + self.npu

    def version(self, installed: Mapping[str, str]) -> str:
        """Return the version of the framework itself; "" where none of its distributions is installed."""
        return next((installed[name] for name in self.own if name in installed), "")


TENSORFLOW = Packages(("tensorflow", "tensorflow_cpu", "tensorflow_aarch64", "intel_tensorflow"))
OF: dict[str, Packages] = {
    "torch": Packages(("torch",), ("torch_npu",)),
    "mindspore": Packages(("mindspore", "mindspore_ascend")),
    "paddle": Packages(("paddlepaddle", "paddlepaddle_npu"), ("paddle_custom_npu",)),
}
NOTHING = Packages(())
