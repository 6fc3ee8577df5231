"""The modules of npu_bridge under another name, as the adapter's build copies them here."""

from pathlib import Path

__path__ = [*__path__, str(Path(__file__).resolve().parents[3] / "npu_bridge")]
