"""The program itself, in a process of its own: on every TensorFlow, as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
import tensorflow as tf

from squad.run_squad import main
from tests.launching import ROOT
from tests.squad.conftest import flags, make_tiny

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
NEW = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 9)
# The program as `-m` runs it, then what TensorFlow was told.
AND_TELL = (
    "import os, runpy\n"
    "try:\n    runpy.run_module('squad.run_squad', run_name='__main__')\n"
    f"finally:\n    print('told', os.environ.get('{ONEDNN}'), flush=True)\n"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("program"))


def run_squad(tiny: Path, out: Path, env: Any = (), **changes: Any) -> Any:
    environ = {name: value for name, value in os.environ.items() if name != ONEDNN}
    environ.update(dict(env), PYTHONPATH=str(ROOT), NPU_LAUNCH_BACKEND="cpu")
    words = flags(tiny, do_train=True, do_predict=True, num_train_steps=3, output_dir=out, **changes)
    return subprocess.run(
        [sys.executable, "-c", AND_TELL, *words], env=environ, capture_output=True, text=True, timeout=240
    )


def test_it_trains_and_predicts_with_onednn_only_where_that_is_safe(tiny: Path, tmp_path: Path) -> None:
    done = run_squad(tiny, tmp_path, dllog_path="/results/bert_dllog.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 3/3" in done.stdout and "EM " in done.stdout
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 10
    assert done.stderr.count("run_squad: note: --dllog_path: has no effect") == 1
    assert f"told {'1' if NEW else None}\n" in done.stdout  # on 2.6.5 and an AMD EPYC it ends by SIGFPE


@pytest.mark.parametrize(
    ("changes", "chosen", "scaled"),
    [
        ({}, "loss scale: dynamic, starting at 4294967296", True),
        ({"precision_mode": "allow_mix_precision_bf16"}, "loss scale: off", False),
    ],
)
def test_on_an_npu_the_loss_scale_follows_the_precision(
    tiny: Path, run_ranks: Callable[..., Any], changes: Any, chosen: str, scaled: bool
) -> None:
    words = flags(tiny, do_train=True, num_train_steps=2, display_loss_steps=1, **changes)
    done = run_ranks(str(ROOT / "squad" / "run_squad.py"), args=words)
    assert done.codes == [0], done.output
    [line] = [line for line in done.output[0].splitlines() if line.startswith("step 2/2")]
    assert chosen in done.output[0] and ("scale 4.29497e+09" in line.split("  ")) is scaled


@pytest.mark.parametrize(("given", "form"), [({}, "tanh"), ({"gelu": "exact"}, "exact")])
def test_a_checkpoint_of_an_npu_says_which_gelu_was_computed(
    tiny: Path, run_ranks: Callable[..., Any], tmp_path: Path, given: Any, form: str
) -> None:
    """So its answers are the same on a CPU."""
    words = flags(
        tiny, do_train=True, do_predict=True, num_train_steps=2, output_dir=tmp_path / "npu", **given
    )
    done = run_ranks(str(ROOT / "squad" / "run_squad.py"), args=words)
    assert done.codes == [0], done.output
    assert ("gelu: tanh, as the NPU's fused one" in done.output[0]) == (not given)
    assert ("Gelu" in done.reports[0]["calls"]) == (not given)
    folder = tmp_path / "npu"
    assert json.loads((folder / "model.ckpt-2.json").read_text())["config"]["gelu"] == form
    assert json.loads((folder / "config.json").read_text())["hidden_act"] == {"tanh": "gelu_new"}.get(
        form, "gelu"
    )
    asked = flags(tiny, do_predict=True, init_checkpoint=folder, output_dir=tmp_path / "cpu")
    assert main([word for word in asked if not word.startswith("--bert_config_file")]) == 0
    odds = [json.loads((tmp_path / name / "null_odds.json").read_text()) for name in ("npu", "cpu")]
    assert odds[1] == pytest.approx(odds[0], abs=1e-4)
