"""When TensorFlow is asked for oneDNN, and how its version is found without importing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from bert import onednn


@pytest.mark.parametrize(
    ("version", "backend", "asked"),
    [
        ((2, 21), "cpu", True),
        ((2, 9), "cpu", True),
        ((2, 21), "npu", False),
        ((2, 8), "cpu", False),
        ((2, 6), "cpu", False),
        ((1, 15), "cpu", False),
        ((), "cpu", False),  # unknown
    ],
)
def test_onednn_is_asked_for_on_cpus_from_2_9_on(
    monkeypatch: Any, version: tuple[int, ...], backend: str, asked: bool
) -> None:
    monkeypatch.setattr(onednn, "tensorflow_version", lambda: version)
    environ: dict[str, str] = {}
    onednn.ask(environ, backend)
    assert environ == ({onednn.VARIABLE: "1"} if asked else {})


def test_what_the_user_has_set_stays(monkeypatch: Any) -> None:
    monkeypatch.setattr(onednn, "tensorflow_version", lambda: (2, 21))
    environ = {onednn.VARIABLE: "0"}
    onednn.ask(environ, "cpu")
    assert environ == {onednn.VARIABLE: "0"}


def test_the_version_found_is_the_installed_ones() -> None:
    assert onednn.tensorflow_version() == tuple(map(int, tf.__version__.split(".")[:2]))


@pytest.mark.parametrize(
    ("folders", "version"),
    [
        (["tensorflow_cpu-2.21.0.dist-info", "tensorflow_hub-0.12.0.dist-info"], (2, 21)),
        (["tensorflow-2.6.5.dist-info", "tensorflow_estimator-2.9.0.dist-info"], (2, 6)),
        (["tensorflow_gpu-1.15.5-py3.7.egg-info"], (1, 15)),
        (["tf_nightly_cpu-2.22.0.dev20251101.dist-info"], (2, 22)),
        (["tensorflow-2.6.5.dist-info", "tensorflow_cpu-2.21.0.dist-info"], (2, 6)),  # one over the other
        (["tensorflow_estimator-2.6.0.dist-info"], ()),
        ([], ()),
    ],
)
def test_it_is_read_from_what_the_package_left_beside_it(
    monkeypatch: Any, tmp_path: Path, folders: Any, version: tuple[int, ...]
) -> None:
    for name in (*folders, "tensorflow"):
        (tmp_path / name).mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise ImportError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert onednn.tensorflow_version() == version


def test_without_tensorflow_nothing_is_asked_for(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert onednn.tensorflow_version() == ()
