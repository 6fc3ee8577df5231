"""`python -m launcher` is `npu-launch`."""

from launcher.cli import main

main()
