"""What a model's own files say: obeyed, or contradicted aloud."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from safetensors.numpy import save_file

from bert import export, names
from bert.config import BertConfig
from squad import features
from squad.check import check
from squad.flags import SquadFlags
from squad.run_squad import main
from tests.squad.conftest import CONFIG, flags

Make = Callable[..., Path]
JSON = "tokenizer_config.json"


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Make:
    """Give a function that makes a model's folder in HF's form; changes are those of config.json."""

    def make(
        name: str = "model", head: bool = True, more: int = 0, cased: bool = False, **changes: Any
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        tokens = (tiny / "vocab.txt").read_text().split()
        tokens += list(string.ascii_uppercase) if cased else []
        (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
        values = {**CONFIG, "vocab_size": len(tokens) + more, "model_type": "bert", **changes}
        (folder / "config.json").write_text(json.dumps(values))
        sizes = {key: value for key, value in values.items() if key in CONFIG}
        shapes = names.shapes(BertConfig(vocab_size=len(tokens) + more, **sizes))
        random = np.random.RandomState(0)
        held = {names.to_hf(name)[0]: _value(random, name, shape) for name, shape in shapes.items()}
        save_file(
            {n: v for n, v in held.items() if head or "qa_" not in n}, str(folder / "model.safetensors")
        )
        return folder

    return make


def _value(random: np.random.RandomState, name: str, shape: tuple[int, ...]) -> np.ndarray:
    drawn = random.randn(*(shape[::-1] if name.endswith("kernel") else shape)) * 0.3
    return np.asarray(drawn, np.float32)


def look(tiny: Path, model: Path | str, **changes: Any) -> tuple[SquadFlags, list[str], list[str]]:
    """Check a prediction; give flags, findings and notes."""
    own = {"vocab_file": "", "bert_config_file": "", "init_checkpoint": model, "do_predict": True}
    found = check(flags(tiny, **{**own, **changes}), {"NPU_LAUNCH_CHECK": "1"})
    findings, notes = (["{}: {}".format(*line) for line in lines] for lines in found[1:])
    return found.flags, findings, notes


def only(lines: list[str], *parts: str) -> None:
    assert len(lines) == 1 and all(part in lines[0] for part in parts), lines


def test_a_model_that_says_nothing_unusual_is_used_without_a_word(tiny: Path, model: Make) -> None:
    found, findings, notes = look(tiny, model())
    assert (findings, notes) == ([], [])
    assert (found.do_lower_case, found.gelu) == (True, "exact")
    assert found.text_rules == (True, None, True)


@pytest.mark.parametrize(
    ("cased", "held", "wish", "lower", "said"),
    [
        (True, {}, {}, False, ["do_lower_case: False", "the vocabulary has words with capital letters"]),
        (False, {"do_lower_case": False}, {}, False, ["do_lower_case: False", JSON + " says False"]),
        (False, {"do_lower_case": False}, {"do_lower_case": True}, True, ["do_lower_case: True, as", JSON]),
        (True, {}, {"do_lower_case": True}, True, ["do_lower_case: True, as the flag", "capital letters"]),
        (True, {"do_lower_case": True}, {}, True, ["do_lower_case: True", "has words with"]),
        (False, {}, {"do_lower_case": False}, False, ["do_lower_case: False", "no words with"]),
    ],
)  # fmt: skip
def test_the_case_is_the_models_or_the_flags_aloud(
    tiny: Path, model: Make, cased: bool, held: Any, wish: Any, lower: bool, said: list[str]
) -> None:
    folder = model(cased=cased)
    (folder / JSON).write_text(json.dumps(held))
    found, findings, notes = look(tiny, folder, **wish)
    assert not findings and found.do_lower_case is lower
    only(notes, *said)


def test_accents_are_kept_where_the_model_keeps_them(tiny: Path, model: Make) -> None:
    folder = model()
    (folder / JSON).write_text('{"do_lower_case": true, "strip_accents": false}')
    found, _, notes = look(tiny, folder)
    assert found.text_rules == (True, False, True) and not notes
    only(look(tiny, folder, strip_accents=True)[2], "strip_accents: ", JSON, "says False; the flag is obeyed")
    (folder / JSON).write_text('{"strip_accents": false}')  # and nothing about case
    only(look(tiny, folder, strip_accents=True)[2], "strip_accents: the tokenizer's files say False; ")


@pytest.mark.parametrize(
    ("act", "wish", "gelu", "said"),
    [
        ("gelu_new", {}, "tanh", []),
        ("gelu_new", {"gelu": "tanh"}, "tanh", []),
        ("gelu_new", {"gelu": "exact"}, "exact", ["hidden_act gelu_new (tanh); exact is computed"]),
        ("gelu", {"gelu": "tanh"}, "tanh", ["hidden_act gelu (exact); tanh is computed"]),
    ],
)
def test_the_form_of_gelu_is_the_models_or_the_flags_aloud(
    tiny: Path, model: Make, act: str, wish: Any, gelu: str, said: list[str]
) -> None:
    found, findings, notes = look(tiny, model(hidden_act=act), **wish)
    assert not findings and found.gelu == gelu and len(notes) == len(said)
    assert all(part in note for part, note in zip(said, notes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"position_embedding_type": "relative_key_query"}, "only absolute positions are computed"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"type_vocab_size": 1}, "type_vocab_size is 1; question and passage need 2"),
        ({"num_attention_heads": 3}, "hidden_size 16 is not a multiple"),
    ],
)
def test_another_model_is_refused_first(tiny: Path, model: Make, changes: Any, said: str) -> None:
    folder = model(**changes)
    if "model_type" in changes:
        (folder / "vocab.txt").rename(folder / "vocab.json")
    only(look(tiny, folder)[1], f"bert_config_file: {folder}/config.json: ", said)


def test_unknown_keys_are_named(tiny: Path, model: Make) -> None:
    _, findings, notes = look(tiny, model(rotary=True))
    assert not findings
    only(notes, "config.json says rotary, which is not known here")


@pytest.mark.parametrize(
    ("more", "findings", "notes"),
    [(6, 0, 0), (1000, 0, 1), (2000, 1, 0)],
    ids=["rounded", "padded", "another"],
)
def test_a_table_larger_than_the_vocabulary_is_padded(
    tiny: Path, model: Make, more: int, findings: int, notes: int
) -> None:
    found = look(tiny, model(more=more))
    assert (len(found[1]), len(found[2])) == (findings, notes)


def test_a_model_without_span_head_answers_only_when_trained(tiny: Path, model: Make) -> None:
    folder = model(head=False)
    only(look(tiny, folder)[1], "has no span head", "its answers would be random")
    assert look(tiny, folder, do_train=True)[1] == []


def test_a_vocabulary_is_taken_from_tokenizer_json_alone(tiny: Path, model: Make) -> None:
    folder = model()
    ids = {token: index for index, token in enumerate((folder / "vocab.txt").read_text().split())}
    (folder / "vocab.txt").unlink()
    only(look(tiny, folder)[1], "vocab_file: missing", "has neither vocab.txt nor tokenizer.json")
    (folder / "merges.txt").write_text("")
    only(look(tiny, folder)[1], "but merges.txt (a byte-level BPE)")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": ids}}))
    found, findings, notes = look(tiny, folder)
    assert not findings and found.vocab_file == str(folder / "tokenizer.json")
    only(notes, "tokenizer.json is read, as there is no vocab.txt")


def test_what_is_no_checkpoint_is_said_first_and_once(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    only(look(tiny, tmp_path)[1], "init_checkpoint: ", "pytorch_model.bin, a pickle")
    only(look(tiny, "bert-base-chinese")[1], "huggingface-cli download bert-base-chinese")


@pytest.fixture(scope="module")
def cased_run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the output folder of a run with another case and gelu than usual."""
    folder = tmp_path_factory.mktemp("run")
    wish = flags(
        tiny, do_train=True, num_train_steps=2, save_checkpoints_steps=1, output_dir=folder,
        do_lower_case=False, strip_accents=True, gelu="tanh",
    )  # fmt: skip
    assert main(wish) == 0
    return folder


@pytest.mark.tensorflow
def test_a_runs_output_folder_is_enough_to_predict_with(tiny: Path, cased_run: Path) -> None:
    found, findings, notes = look(tiny, cased_run)
    assert not findings
    assert found.init_checkpoint == str(cased_run / "model.ckpt-2")
    assert (found.text_rules, found.gelu) == ((False, True, True), "tanh")
    assert [note.partition(":")[0] for note in notes] == ["init_checkpoint", "do_lower_case"]
    assert f"holds 2 checkpoints; {cased_run}/model.ckpt-2 is taken" in notes[0]


@pytest.mark.tensorflow
def test_what_a_checkpoint_was_trained_with_comes_before_files_given_beside_it(
    tiny: Path, cased_run: Path
) -> None:
    own = {"vocab_file": tiny / "vocab.txt", "bert_config_file": tiny / "bert_config.json"}
    found, findings, notes = look(tiny, cased_run / "model.ckpt-2", **own)
    assert not findings and (found.text_rules, found.gelu) == ((False, True, True), "tanh")
    assert any("was trained with tanh, so that is computed" in note for note in notes)


@pytest.mark.tensorflow
def test_another_vocabulary_than_the_one_trained_with_is_refused(
    tiny: Path, cased_run: Path, tmp_path: Path
) -> None:
    lines = (tiny / "vocab.txt").read_text().split()
    lines[-2:] = reversed(lines[-2:])
    (tmp_path / "vocab.txt").write_text("\n".join(lines))
    only(look(tiny, cased_run, vocab_file=tmp_path / "vocab.txt")[1], "is not the vocabulary", "trained with")
    _, findings, notes = look(tiny, cased_run, vocab_file=tmp_path / "vocab.txt", do_train=True)
    assert not findings and any("are taken line by line" in note for note in notes)


@pytest.mark.tensorflow
def test_another_train_file_in_the_same_output_folder_is_refused(
    tiny: Path, cased_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = tmp_path / "other.json"
    other.write_text((tiny / "train.json").read_text().replace("long walks", "short walks"))
    kept = {"output_dir": cased_run, "do_lower_case": False, "strip_accents": True, "gelu": "tanh"}
    assert main(flags(tiny, do_train=True, num_train_steps=3, train_file=other, **kept)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        "a run at step 2 of other data: train_file is other.json" in error and "another output_dir" in error
    )


@pytest.mark.tensorflow
def test_a_models_own_files_are_not_overwritten_by_a_run_in_its_folder(tiny: Path, model: Make) -> None:
    folder = model()
    text = (folder / "config.json").read_text()
    wish = {"vocab_file": "", "bert_config_file": "", "init_checkpoint": folder, "output_dir": folder}
    assert main(flags(tiny, do_train=True, num_train_steps=1, **wish)) == 0
    assert (folder / "config.json").read_text() == text and (folder / JSON).exists()


def test_ranks_that_found_different_checkpoints_do_not_predict() -> None:
    from bert.errors import CheckpointError
    from squad.run_squad import _compare_checkpoints

    _compare_checkpoints(["model.ckpt-2"] * 2)
    with pytest.raises(
        CheckpointError, match=r"the ranks found model\.ckpt-2, model\.ckpt-3; give the prefix"
    ):
        _compare_checkpoints(["model.ckpt-3", "model.ckpt-2"])


def test_features_written_alone_follow_the_files_beside_the_vocabulary(
    tiny: Path, model: Make, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    document = json.loads((tiny / "train.json").read_text())
    for paragraph in document["data"][0]["paragraphs"]:
        paragraph["qas"][0]["question"] = "W H?"
    (tmp_path / "t.json").write_text(json.dumps(document))
    found = {}
    for name, words in (("cased", []), ("uncased", []), ("plain", ["--cased"])):
        folder = model(name, cased=name == "cased")
        target = tmp_path / (name + ".npz")
        wish = [str(tmp_path / "t.json"), "--vocab_file", str(folder / "vocab.txt"), "--output", str(target)]
        assert features.main(wish + words) == 0
        found[name] = np.load(target)["input_ids"]
    assert (
        capsys.readouterr().err.count("case is kept, as said by: the vocabulary has words with capital") == 1
    )
    unknown = {name: int((rows == 1).sum()) for name, rows in found.items()}
    assert unknown["uncased"] == unknown["cased"] == 0 < unknown["plain"]


def ask(checkpoint: Any, *words: str) -> tuple[SquadFlags, list[str], list[str]]:
    """Check a prediction with nothing given but `words`; give flags, findings and notes."""
    found = check(["--do_predict", f"--init_checkpoint={checkpoint}", *words], {"NPU_LAUNCH_CHECK": "1"})
    return (found.flags, *(["{}: {}".format(*line) for line in lines] for lines in found[1:]))


@pytest.mark.tensorflow
def test_a_model_is_asked_as_it_was_trained(tiny: Path, finished: str, tmp_path: Path) -> None:
    assert export.main([finished, str(tmp_path / "exported")]) == 0
    where = f"--predict_file={tiny / 'dev.json'}"
    for checkpoint in (finished, tmp_path / "exported"):
        found, findings, notes = ask(checkpoint, where)
        assert (found.max_seq_length, found.doc_stride, found.max_query_length) == (64, 16, 24)
        assert found.version_2_with_negative and not findings
        only(notes, "asked as it was trained: max_seq_length 64, doc_stride 16, max_query_length 24")
        found, findings, notes = ask(checkpoint, where, "--max_seq_length=96", "--word_split=auto")
        assert (found.max_seq_length, found.word_split, findings) == (96, "google", [])
        assert any("was trained with 64; 96 is used, as the flag says" in note for note in notes)
    only(ask(finished, where, "--max_seq_length=193")[1], "193 is more than the model's 192 positions")


def test_a_row_has_no_more_tokens_than_the_files_allow(tiny: Path, model: Make) -> None:
    folder, where = model(), f"--predict_file={tiny / 'dev.json'}"
    found, findings, notes = ask(folder, where)
    assert (found.max_seq_length, findings) == (192, [])
    only(notes, "max_seq_length: 192, as the model's files allow no more")
    (folder / JSON).write_text('{"model_max_length": 100}')
    assert ask(folder, where)[0].max_seq_length == 100
    (folder / JSON).write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert ask(folder, where)[0].max_seq_length == 192
    assert ask(folder, where, "--max_seq_length=128")[2] == []


def test_a_damaged_setting_of_a_model_is_refused(tiny: Path, model: Make) -> None:
    folder = model(task_specific_params={"squad": {"doc_stride": -1}})
    only(ask(folder, f"--predict_file={tiny / 'dev.json'}")[1], "squad.doc_stride is -1", "no such setting")


@pytest.mark.parametrize("changes", [{"num_attention_heads": 4}, {"layer_norm_eps": 1e-5}])
def test_what_no_shape_tells_is_compared_with_the_models_own_file(
    tiny: Path, model: Make, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = model()
    held = json.loads((folder / "config.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**held, **changes}))
    for task in ({"do_train": False}, {"do_train": True, "do_predict": False}):
        _, findings, _ = look(tiny, folder, bert_config_file=tmp_path / "other.json", **task)
        only(findings, f"says {next(iter(changes))} ", "leave the flag out")
