"""Load a model in a thread while its user reads or types."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, Callable


class Loading:
    """What a function makes in a thread of its own; it begins at once."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._made: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._made = self._load()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """Wait for it. Raises what the function raised."""
        if self._thread.is_alive():
            print("  loading the model ...", flush=True)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._made

    def leave(self, code: int) -> int:
        """End with an exit code; not by way of the interpreter if TensorFlow is just being imported."""
        if self._thread.is_alive():
            sys.stdout.flush()
            os._exit(code)
        if self._made is not None:
            self._made.close()
        return code
