"""What is said of an adapter that is absent, and of an environment that would mislead it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert import backend
from bert.backend import adapter

SANE = {
    "RANK_TABLE_FILE": "t.json",
    "RANK_ID": "0",
    "RANK_SIZE": "1",
    "JOB_ID": "a-1",
    "ASCEND_DEVICE_ID": "0",
}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({}, []),
        ({"POD_NAME": "p"}, ["POD_NAME is set"]),
        ({"CM_CHIEF_IP": "10.0.0.1"}, ["RANK_TABLE_FILE and CM_CHIEF_IP are both set"]),
        ({"CM_WORKER_SIZE": ""}, []),
        ({"JOB_ID": ""}, ["JOB_ID is not set"]),
        ({"ASCEND_DEVICE_ID": "npu0"}, ["'npu0'; it must be a number"]),
        ({"ASCEND_DEVICE_ID": "", "DEVICE_ID": "1"}, []),
        ({"JOB_ID": "", "POD_NAME": "p"}, ["POD_NAME is set", "JOB_ID is not set"]),
    ],
)
def test_every_problem_of_the_environment_is_listed(changes: dict[str, str], words: list[str]) -> None:
    found = adapter.environment_problems(dict(SANE, **changes))
    assert len(found) == len(words) and all(word in text for word, text in zip(words, found))


def test_an_absent_adapter_is_named_with_what_to_do() -> None:
    pytest.importorskip("tensorflow")
    with pytest.raises(
        adapter.AdapterError, match=r"needs npu_(bridge|device), which is not installed; .*cpu"
    ):
        adapter.find()
    assert not adapter.available()


@pytest.mark.parametrize("name, words", [("npu_bridge", "1.15"), ("npu_device", "2.6")])
def test_an_adapter_that_does_not_load_is_told_with_the_reason(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    (tmp_path / (name + ".py")).write_text(
        "raise ImportError('libhccl.so: cannot open shared object file')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(adapter.AdapterError) as told:
        adapter.find()
    fits = (name == "npu_bridge") == tensorflow.__version__.startswith("1.")
    assert ("libhccl.so" if fits else "is for TensorFlow " + words) in str(told.value)


BRIDGE = {
    "__init__.py": "",
    "helper/__init__.py": "",
    # What npu_bridge does: it prints why its library does not load, and goes on without it.
    "helper/helper.py": "import tensorflow as tf\n"
    "try:\n    npu_bridge_handle = tf.load_op_library('/nowhere/_tf_adapter.so')\n"
    "except Exception as e:\n    print(str(e))\n",
    "npu_init.py": "from npu_bridge.helper.helper import npu_bridge_handle\n",
}
DEVICE = {"__init__.py": "import tensorflow as tf\ntf.load_op_library('/nowhere/_npu_ops.so')\n"}


def test_a_library_that_does_not_load_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """npu_bridge prints the reason and raises another error; npu_device raises TensorFlow's own."""
    tensorflow = pytest.importorskip("tensorflow")
    first = tensorflow.__version__.startswith("1.")
    name, files = ("npu_bridge", BRIDGE) if first else ("npu_device", DEVICE)
    for file, text in files.items():
        (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / file).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(adapter.AdapterError) as told:
        adapter.find()
    message = str(told.value)
    assert "/nowhere/" in message and "cannot open shared object file" in message, message
    assert "\n" not in message
    assert ("set_env.sh" in message) == tensorflow.__version__.startswith(("1.15", "2.6"))
    assert "cannot import name" not in message and capsys.readouterr().out == ""


def test_the_backend_of_a_machine_without_npu_is_cpu() -> None:
    assert backend.choose("auto") == "cpu" and backend.choose("npu") == "npu"
    with pytest.raises(ValueError, match="gpu"):
        backend.choose("gpu")
