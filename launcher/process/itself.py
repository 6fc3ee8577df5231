"""How this npu-launch is started once more: as the agent of a host, for the runs of a command, by a queue.

By the path of its file: `python -m launcher` would look in the current folder first, where a user's own
`launcher` or `tokenize.py` may be.
"""

from __future__ import annotations

import os
import sys

import launcher

PROGRAM = (sys.executable, os.path.join(os.path.dirname(os.path.abspath(launcher.__file__)), "__main__.py"))
