"""Write what this rank was given to NAME-RANK.json."""

from __future__ import annotations

import json
import os
import sys

found = {
    "environ": dict(os.environ),
    "argv": sys.argv,
    "path": sys.path[0],
    "cwd": os.getcwd(),
    "name": __name__,
    "package": __package__,
    "file": os.path.abspath(__file__),
}
with open(f"{sys.argv[1]}-{os.environ['RANK']}.json", "w") as stream:
    json.dump(found, stream)
