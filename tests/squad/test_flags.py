"""The flags of run_squad: names, defaults, spellings, and what bad ones are told."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import pytest

from squad.flags import REFUSED, SquadFlags, fields, parse, reference, resolve_paths, usage

ROOT = Path(__file__).resolve().parents[2]


def messages(argv: List[str]) -> List[str]:
    return ["%s: %s" % finding for finding in parse(argv)[1]]


@pytest.mark.parametrize(
    "argv",
    [["--max_seq_length=128"], ["--max_seq_length", "128"]],
)
def test_a_value_may_follow_an_equals_sign_or_a_space(argv: List[str]) -> None:
    assert parse(argv) == (SquadFlags(max_seq_length=128), [])


@pytest.mark.parametrize(
    ("word", "expected"),
    [("--do_train", True), ("--do_train=True", True), ("--do_train=0", False), ("--nodo_train", False)],
)
def test_booleans_take_every_spelling_of_absl(word: str, expected: bool) -> None:
    assert parse([word])[0].do_train is expected


def test_a_number_may_be_negative_or_scientific() -> None:
    flags, findings = parse(["--npu_bert_loss_scale", "-1", "--learning_rate=5.6e-5"])
    assert (flags.npu_bert_loss_scale, flags.learning_rate, findings) == (-1.0, 5.6e-5, [])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--lerning_rate=1", "lerning_rate: unknown flag; did you mean learning_rate?"),
        ("--xyzzy=1", "xyzzy: unknown flag; see --help"),
        ("--max_seq_length=many", "max_seq_length: 'many' is not an integer"),
        ("--learning_rate=fast", "learning_rate: 'fast' is not a number"),
        ("--do_train=maybe", "do_train: 'maybe' is not a boolean; give True or False"),
        ("--batching=best", "batching: 'best' is none of pad, bucket, pack"),
        ("--max_seq_length", "max_seq_length: needs a value"),
        ("train.json", "train.json: not a flag; write --name=value"),
    ],
)
def test_a_bad_flag_is_named_with_what_to_do(word: str, message: str) -> None:
    assert messages([word]) == [message]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_nvidias_flags_are_refused_unless_switched_off(name: str) -> None:
    assert messages(["--%s=True" % name]) == ["%s: not supported here; %s" % (name, REFUSED[name])]
    assert messages(["--%s=False" % name]) == []


def test_every_finding_of_a_line_is_reported_at_once() -> None:
    assert len(messages(["--max_seq_length=x", "--nope", "--do_train=2"])) == 3


def test_the_seeds_documented_command_is_understood() -> None:
    command = (
        "--vocab_file=/v --bert_config_file=/c --init_checkpoint=/i --do_train=True --train_file=/t "
        "--input_files_dir=/r --use_tfrecord=False --do_predict=True --predict_file=/p --eval_script=/e "
        "--train_batch_size=32 --learning_rate=5.6e-5 --num_train_epochs=2 --max_seq_length=384 "
        "--doc_stride=128 --amp=True --npu_bert_debug=False --npu_bert_use_tdt=True "
        "--iterations_per_loop=100 --save_checkpoints_steps=1000 --npu_bert_clip_by_global_norm=True "
        "--distributed=False --npu_bert_loss_scale=0 --version_2_with_negative=True "
        "--predict_batch_size=1 --output_dir=./result"
    )
    flags, findings = parse(command.split())
    assert findings == []
    assert (flags.train_batch_size, flags.amp, flags.npu_bert_clip_by_global_norm) == (32, True, True)


def test_paths_are_resolved_from_where_the_user_typed() -> None:
    flags = resolve_paths(
        SquadFlags(train_file="a.json", eval_script="/e.py"), {"NPU_LAUNCH_CWD": "/home/me"}
    )
    assert (flags.train_file, flags.eval_script, flags.vocab_file) == ("/home/me/a.json", "/e.py", "")


def test_help_names_every_flag() -> None:
    text = usage()
    assert all("--" + name in text for name in fields())


def test_the_documentation_has_the_table_of_all_flags() -> None:
    text = (ROOT / "docs" / "squad.md").read_text(encoding="utf-8")
    table = text.partition("<!-- flags: python -m squad.flags -->\n")[2].partition("<!-- end of flags -->")[0]
    assert table == reference(), "run `python -m squad.flags` and put its table into docs/squad.md"


SEED = {
    "bert_config_file": "", "vocab_file": "", "init_checkpoint": "", "output_dir": "", "train_file": "",
    "predict_file": "", "eval_script": "", "do_lower_case": True, "max_seq_length": 384, "doc_stride": 128,
    "max_query_length": 64, "do_train": False, "do_predict": False, "train_batch_size": 8,
    "predict_batch_size": 8, "learning_rate": 5e-6, "num_train_epochs": 3.0, "warmup_proportion": 0.1,
    "save_checkpoints_steps": 5000, "display_loss_steps": 10, "iterations_per_loop": 1000,
    "num_accumulation_steps": 1, "n_best_size": 20, "max_answer_length": 30, "verbose_logging": False,
    "version_2_with_negative": False, "null_score_diff_threshold": 0.0, "input_files_dir": "",
    "use_tfrecord": False, "npu_gather": False, "npu_bert_debug": False, "npu_bert_fused_gelu": True,
    "npu_bert_npu_dropout": True, "npu_bert_use_tdt": True, "init_loss_scale_value": 2.0**32,
    "hcom_parallel": True, "distributed": False, "num_train_steps": 0,
}  # fmt: skip
# docs/squad.md, "What differs": amp, clipping and loss scale depend on the device or changed.
CHANGED = {"amp": None, "npu_bert_clip_by_global_norm": None, "npu_bert_loss_scale": -1.0,
           "num_eval_iterations": 0}  # fmt: skip


def test_every_flag_of_the_seed_is_there_with_its_default() -> None:
    held = {name: field.default for name, field in fields().items()}
    assert {name: held[name] for name in SEED} == SEED
    assert {name: held[name] for name in CHANGED} == CHANGED


@pytest.mark.parametrize(
    ("words", "clip"),
    [
        ([], "global"),
        (["--clip=none"], "none"),
        (["--npu_bert_clip_by_global_norm=False", "--clip=none"], "per_tensor"),
        (["--npu_bert_clip_by_global_norm"], "global"),
    ],
)
def test_both_flags_of_clipping_work(words: List[str], clip: str) -> None:
    assert parse(words)[0].clipping == clip


@pytest.mark.parametrize(
    ("words", "mixed"),
    [
        ([], None),
        (["--amp"], True),
        (["--amp=False"], False),
        (["--precision_mode=allow_mix_precision"], True),
        (["--precision_mode=must_keep_origin_dtype", "--amp"], False),
    ],
)
def test_both_flags_of_precision_work(words: List[str], mixed: Optional[bool]) -> None:
    flags, findings = parse(words)
    assert (flags.mixed_precision, findings) == (mixed, [])


def test_the_successors_names_are_understood() -> None:
    flags, findings = parse(["--use_fast_gelu=False", "--npu_bert_npu_dropout_v3=False"])
    assert (flags.npu_bert_fused_gelu, flags.npu_bert_npu_dropout, findings) == (False, False, [])
