"""`python -m squad.features FILE`: write the features of a SQuAD file, to debug data."""

from __future__ import annotations

import sys

from squad.data.features import Features, build_features, main, write_npz

__all__ = ["Features", "build_features", "main", "write_npz"]

if __name__ == "__main__":
    sys.exit(main())
