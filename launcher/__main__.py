"""`python -m launcher` is `npu-launch`; that of `agent` alone, as engines start it, reads no command line."""

import os
import sys


def _be_agent() -> None:
    from launcher.errors import LauncherError
    from launcher.hosts.agent import on_stdio
    from launcher.output import echo, open_closed_streams

    open_closed_streams()
    try:
        sys.exit(on_stdio(os.environ))
    except LauncherError as error:
        echo(*(f"npu-launch: {line}" for line in error.lines), err=True)
        sys.exit(error.exit_code)


if sys.argv[1:] == ["agent"]:
    _be_agent()
else:
    from launcher.cli import main

    main()
