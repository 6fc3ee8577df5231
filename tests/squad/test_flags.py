"""The flags of run_squad: names, defaults, spellings, and what bad ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from squad.flags import ALIASES, REFUSED, UNUSED, SquadFlags, fields, parse, reference, resolve_paths, usage

ROOT = Path(__file__).resolve().parents[2]


def messages(argv: list[str]) -> list[str]:
    return ["{}: {}".format(*finding) for finding in parse(argv)[1]]


@pytest.mark.parametrize(
    "argv",
    [["--max_seq_length=128"], ["--max_seq_length", "128"]],
)
def test_a_value_may_follow_an_equals_sign_or_a_space(argv: list[str]) -> None:
    assert parse(argv) == (SquadFlags(max_seq_length=128), [], [])


@pytest.mark.parametrize(
    ("word", "expected"),
    [("--do_train", True), ("--do_train=True", True), ("--do_train=0", False), ("--nodo_train", False)],
)
def test_booleans_take_every_spelling_of_absl(word: str, expected: bool) -> None:
    assert parse([word])[0].do_train is expected


def test_a_number_may_be_negative_or_scientific() -> None:
    flags, findings, _ = parse(["--npu_bert_loss_scale", "-1", "--learning_rate=5.6e-5"])
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
    assert messages([f"--{name}=True"]) == [f"{name}: not supported; {REFUSED[name]}"]
    for word in ("--%s=False", "--no%s"):
        assert parse([word % name]) == (SquadFlags(), [], [])


# As the original has them, and passes them on.
LEFT_OVER = {
    "dllog_path": "/results/bert_dllog.json", "triton_model_name": "bert", "triton_model_version": "1",
    "triton_server_url": "localhost:8001", "triton_model_overwrite": "False", "triton_max_batch_size": "8",
    "triton_dyn_batching_delay": "0", "triton_engine_count": "1",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(LEFT_OVER))
@pytest.mark.parametrize("form", ["--%s=%s", "--%s %s"])
def test_nvidias_flags_about_how_to_do_what_is_not_done_are_noted(name: str, form: str) -> None:
    command = [*(form % (name, LEFT_OVER[name])).split(), "--max_seq_length=128"]
    note = (name, "has no effect; " + UNUSED[name])
    assert parse(command) == (SquadFlags(max_seq_length=128), [], [note])
    assert set(LEFT_OVER) == set(UNUSED)


def test_every_flag_of_the_original_passes_with_its_own_default() -> None:
    switched_off = dict.fromkeys(("horovod", "use_xla", "use_trt", "export_triton"), False)
    depends = {"amp": True, "npu_bert_clip_by_global_norm": False, "npu_bert_loss_scale": 0}
    values = dict(ORIGINAL, **switched_off, **depends, **LEFT_OVER)
    flags, findings, notes = parse(["--{}={}".format(*item) for item in values.items()])
    assert findings == [] and sorted(name for name, _ in notes) == sorted(LEFT_OVER)
    assert (flags.amp, flags.clipping, flags.npu_bert_loss_scale) == (True, "per_tensor", 0.0)


def test_what_cannot_be_done_stays_an_error_beside_notes() -> None:
    _, findings, notes = parse(["--export_triton=True", "--triton_model_name=bert", "--use_xla"])
    assert [name for name, _ in findings] == ["export_triton", "use_xla"]
    assert [name for name, _ in notes] == ["triton_model_name"]


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
    flags, findings, notes = parse(command.split())
    assert findings == notes == []
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


ORIGINAL = {
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
# docs/squad.md, "What differs": amp, clipping, loss scale and case depend on device or model, or changed.
CHANGED = {"amp": None, "do_lower_case": None, "npu_bert_clip_by_global_norm": None,
           "npu_bert_loss_scale": None, "num_eval_iterations": 0}  # fmt: skip


def test_every_flag_of_the_seed_is_there_with_its_default() -> None:
    held = {name: field.default for name, field in fields().items()}
    assert {name: held[name] for name in {**ORIGINAL, **CHANGED}} == {**ORIGINAL, **CHANGED}


@pytest.mark.parametrize(
    ("words", "clip"),
    [
        ([], "global"),
        (["--clip=none"], "none"),
        (["--npu_bert_clip_by_global_norm=False", "--clip=none"], "per_tensor"),
        (["--npu_bert_clip_by_global_norm"], "global"),
    ],
)
def test_both_flags_of_clipping_work(words: list[str], clip: str) -> None:
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
def test_both_flags_of_precision_work(words: list[str], mixed: bool | None) -> None:
    flags, findings, _ = parse(words)
    assert (flags.mixed_precision, findings) == (mixed, [])


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_the_successors_switches_switch_ours_off(name: str) -> None:
    for word in ("--%s=False", "--no%s"):
        flags, findings, notes = parse([word % name])
        assert (getattr(flags, ALIASES[name][0]), findings, notes) == (False, [], [])


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_switched_on_they_are_taken_with_a_note_as_theirs_is_another_operation(name: str) -> None:
    for word in ("--%s=True", "--%s"):
        flags, findings, [(noted, message)] = parse([word % name])
        assert getattr(flags, ALIASES[name][0]) is True and findings == []
        assert noted == name and "not the same operation" in message


def test_a_bad_value_of_theirs_is_told_under_their_name() -> None:
    assert messages(["--use_fast_gelu=fast"]) == [
        "use_fast_gelu: 'fast' is not a boolean; give True or False"
    ]


@pytest.mark.parametrize(
    "argv, on, noted",
    [
        (["--npu_bert_npu_dropout_v3=True"], True, ["npu_bert_npu_dropout_v3"]),
        (["--npu_bert_npu_dropout_v3=True", "--npu_bert_npu_dropout=False"], False, []),
        (
            ["--npu_bert_npu_dropout=False", "--npu_bert_npu_dropout_v3=True"],
            True,
            ["npu_bert_npu_dropout_v3"],
        ),
        (["--npu_bert_npu_dropout_v3", "--nonpu_bert_npu_dropout_v3"], False, []),
    ],
)
def test_a_note_says_what_is_done_in_the_end(argv: list[str], on: bool, noted: list[str]) -> None:
    flags, findings, notes = parse(argv)
    assert findings == [] and flags.npu_bert_npu_dropout is on and [name for name, _ in notes] == noted
