"""A training that evaluates itself on the simulator: one shape, one set of weights, graphs alike."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.launching import ROOT
from tests.squad.conftest import flags, make_tiny

PROGRAM = str(ROOT / "squad" / "run_squad.py")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("evaluated"))


def test_ranks_evaluate_and_go_on_from_an_evaluation_that_was_cut_short(
    tiny: Path, run_ranks: Any, tmp_path: Path
) -> None:
    """A rank without a row of its own runs the graph, too: the training graph that follows has one number."""
    words = flags(tiny, do_train=True, output_dir=tmp_path, num_train_steps=4, eval_steps=2, keep_best="f1",
                  iterations_per_loop=3, global_batch_size=8, predict_batch_size=64)  # fmt: skip
    whole = run_ranks(PROGRAM, 2, args=words)
    assert whole.codes == [0, 0], whole.output
    said = re.findall(r"step \d: EM .*", whole.output[0])
    assert len(said) == 2
    newest = tmp_path / "model.ckpt-4.json"
    facts = json.loads(newest.read_text())
    facts["evaluation"] = dict(facts["evaluation"], pending=True)
    newest.write_text(json.dumps(facts))
    again = run_ranks(PROGRAM, 2, args=[*words, "--num_train_steps=6"])
    assert again.codes == [0, 0], again.output
    assert [line[:8] for line in re.findall(r"step \d: EM .*", again.output[0])] == ["step 4: ", "step 6: "]
