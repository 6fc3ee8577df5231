"""`python -m launcher` is `npu-launch`; that of `agent` alone, as engines start it, reads no command line.

The launcher starts itself by the path of this file (launcher/process/itself.py).
"""

import os
import sys


def _find_packages() -> None:
    """Import from beside `launcher`, not from within it; all else comes from where it did."""
    own = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if path != own]
    sys.path[:] = [os.path.dirname(own), *others]
    import launcher  # noqa: F401 - now, so that no other of this name is found
    import rank_table  # noqa: F401

    sys.path[:] = [*others, os.path.dirname(own)]


def _be_agent(engine: str) -> None:
    from launcher.errors import LauncherError
    from launcher.hosts.agent import on_stdio
    from launcher.output import echo, open_closed_streams

    open_closed_streams()
    try:
        sys.exit(on_stdio(os.environ, engine=engine))
    except LauncherError as error:
        echo(*(f"npu-launch: {line}" for line in error.lines), err=True)
        sys.exit(error.exit_code)


if not __package__:
    _find_packages()
if sys.argv[1:2] == ["agent"] and all(word.startswith("--engine=") for word in sys.argv[2:]):
    _be_agent(sys.argv[-1].partition("=")[2])
else:
    from launcher.cli import main

    main()
