"""Published recipes: what they set, what comes before them, and what is said about the difference."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from squad.check import check
from squad.data.data_order import DataOrder, OrderConfig
from squad.flags import SquadFlags, fields, parse
from squad.presets import PRESETS, differences, statements, table, with_preset
from squad.run_squad import main
from squad.training import loss_scale, rows_per_step, train_config
from tests.squad.conftest import flags

ROOT = Path(__file__).resolve().parents[2]


def given(*words: str) -> SquadFlags:
    return with_preset(parse(["--do_train", *words])[0])


@pytest.mark.parametrize(
    ("name", "ranks", "steps", "until", "rate", "peak", "epsilon"),
    [  # of 130,319 questions, 131,868 features
        ("original-910", 1, 8200, 8144, 5.6e-5, "plain", 1e-4),
        ("original-910", 8, 8200, 8144, 5.6e-5, "plain", 1e-4),
        ("google", 1, 21719, 0, 3e-5, "plain", 1e-6),
        ("nvidia", 8, 4072, 0, 4e-5, "raised", 1e-6),
        ("hf", 1, 21978, 0, 3e-5, "raised", 1e-8),
    ],
)
def test_a_recipe_is_trained_as_it_was_published(
    name: str, ranks: int, steps: int, until: int, rate: float, peak: str, epsilon: float
) -> None:
    found = given(f"--preset={name}")
    order = DataOrder(OrderConfig(rows_per_step(found, ranks)), 131868)
    config = train_config(found, order, "cpu", 130319)
    assert (config.num_train_steps, config.decay_steps, config.peak) == (steps, until, peak)
    assert config.peak_rate(ranks) == pytest.approx(rate)
    assert (config.adam_epsilon, config.clip) == (epsilon, "global")
    assert config.num_warmup_steps == (0 if name == "hf" else int((until or steps) * 0.1))


def test_a_preset_names_flags_and_values_that_exist() -> None:
    for preset in PRESETS.values():
        for name, value in preset.items():
            choices = fields()[name].metadata["choices"]
            assert not choices or value in choices


def test_without_preset_nothing_changes() -> None:
    assert given() == SquadFlags(do_train=True)
    assert statements(given(), "fp32") == [] == list(differences(given()))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "original-910"),
        (["--learning_rate=5.6e-5"], "original-910"),
        (["--learning_rate=3e-5"], "original-910, but learning_rate 3e-05 (5.6e-05)"),
        (["--npu_bert_clip_by_global_norm=False"], "original-910, but clip per_tensor (global)"),
        (["--precision_mode=force_fp32"], "original-910, but amp False (True)"),
        (["--num_train_steps=9"], "original-910, but num_train_steps 9 (0)"),
        (["--gelu=exact", "--freeze_embeddings"],
         "original-910, but gelu exact (tanh), freeze_embeddings True (False)"),
        (["--train_batch_size=4"],
         "original-910, but train_batch_size 4 (32), global_batch_size 0 (32)"),
    ],
)  # fmt: skip
def test_flags_that_are_given_come_first_and_are_named(words: list[str], line: str) -> None:
    found = given("--preset=original-910", *words)
    assert statements(found, "fp32")[0] == line


@pytest.mark.parametrize("name", ["google", "hf"])
def test_a_recipe_in_float32_is_scaled_where_an_npu_multiplies_in_float16(name: str) -> None:
    found = given(f"--preset={name}")
    assert [loss_scale(found, device) for device in ("cpu", "npu")] == [-1, 0]
    assert not differences(found)


@pytest.mark.parametrize(
    ("name", "precision", "said"),
    [
        ("original-910", "fp32", "float16, computed is fp32; batches"),
        ("original-910", "fp16 and fp32", "recipe: batches"),
        ("hf", "bf16", "float32, computed is bf16; windows"),
        ("hf", "fp32", "recipe: windows"),
    ],
)
def test_what_the_device_cannot_do_as_the_recipe_is_said(name: str, precision: str, said: str) -> None:
    assert said in statements(given(f"--preset={name}"), precision)[1]


def test_a_preset_does_not_change_how_a_trained_model_computes(finished: str, tiny: Path) -> None:
    words = ["--do_predict", f"--init_checkpoint={finished}", f"--predict_file={tiny / 'dev.json'}"]
    found, findings, notes = check([*words, "--preset=original-910"], {"NPU_LAUNCH_CHECK": "1"})
    assert (found.gelu, found.max_seq_length, findings) == ("exact", 64, [])
    assert [message.split(",")[0] for key, message in notes if key == "preset"] == ["original-910"]


def test_a_run_prints_and_keeps_how_it_differs(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {"do_train": True, "preset": "hf", "num_train_steps": 1, "output_dir": tmp_path}
    assert main(flags(tiny, **changes)) == 0
    printed = capfd.readouterr().out.splitlines()
    assert printed[0].startswith("preset hf, but max_seq_length 64 (384), doc_stride 16 (128), ")
    assert printed[1].startswith("preset hf: not as in the recipe: ")
    held = json.loads((tmp_path / "model.ckpt-1.json").read_text())
    assert held["preset"]["name"] == "hf"
    assert held["preset"]["differences"]["learning_rate"] == [1e-3, 3e-5]
    assert held["config"]["optimizer_type"] == "adamw" and held["config"]["embedding_norm"] == "word"


def test_the_documentation_has_the_table() -> None:
    text = (ROOT / "docs" / "squad.md").read_text(encoding="utf-8")
    held = text.partition("<!-- presets: python -m squad.presets -->\n")[2].partition("<!-- end of")[0]
    assert held == table(), "run `python -m squad.presets` and put its table into docs/squad.md"


def _of_yaml() -> list[str]:
    args = yaml.safe_load((ROOT / "examples" / "squad2.yaml").read_text())["args"]
    return [f"--{name}={value}" for name, value in args.items()]


def _of_case() -> list[str]:
    rows = csv.reader((ROOT / "examples" / "cases" / "npu.csv").read_text().splitlines())
    [command] = [row[11] for row in rows if row[0] == "2"]
    return command.split()[1:]


@pytest.mark.parametrize("words", [_of_yaml(), _of_case()], ids=["squad2.yaml", "npu.csv"])
def test_the_jobs_of_the_published_result_are_its_preset(words: list[str]) -> None:
    flags, findings, _ = parse(words)
    assert (flags.preset, flags.do_train, flags.do_predict, findings) == ("original-910", True, True, [])
    paths = {name for name, field in fields().items() if field.metadata["path"]}
    assert flags.given - paths == {"preset", "do_train", "do_predict"}
    assert differences(with_preset(flags)) == {}
