"""The locks under their name of before 0.1.0; use launcher.runs.locks. Kept for one release."""

from launcher.runs.locks import Holder, folder, hold, holders, real_devices

__all__ = ["Holder", "folder", "hold", "holders", "real_devices"]
