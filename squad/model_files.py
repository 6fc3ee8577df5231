"""Take from a model's own files what the flags do not say, and compare what both say. No numpy.

The files are those beside init_checkpoint and vocab_file, and the JSON that this program writes beside its
checkpoints. A flag that is given is obeyed; where it contradicts the files, a note says so.
"""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping

from bert import text_rules, vocabulary
from bert.checkpoints import index, inspection
from bert.config import CONFIGS, BertConfig, read_values, refuse_other_models, unknown_keys
from bert.model_files import recorded_gelu
from bert.vocabulary import Vocabulary
from squad import engine, task
from squad.flags import Finding, SquadFlags

_MOST_PADDING = 1024  # rows of the vocabulary's table without a token: Italian BERT has 1000, NVIDIA's 6
_SHOWN = 3  # problems of a checkpoint that are listed
_ROUNDED = 128  # rows of padding up to which nothing is said
_OTHER_VOCABULARIES = (
    ("vocab.json", "the byte-level BPE of RoBERTa or GPT"), ("merges.txt", "a byte-level BPE"),
    ("spiece.model", "SentencePiece"), ("sentencepiece.bpe.model", "SentencePiece"),
    ("tokenizer.model", "SentencePiece"),
)  # fmt: skip


@dataclass
class Report:
    """What was found: reasons not to start, and what the user should know."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    def refuse(self, flag: str, text: str) -> None:
        """Add a finding."""
        self.findings.append((flag, text))

    def say(self, flag: str, text: str) -> None:
        """Add a note."""
        self.notes.append((flag, text))


def with_model_files(flags: SquadFlags) -> SquadFlags:
    """Resolve init_checkpoint; take configuration and vocabulary from its folder unless they are given."""
    path = engine.resolve(flags)
    folder = index.folder_of(path)
    changes: dict[str, Any] = {"init_checkpoint": path}
    for flag, names in (("bert_config_file", CONFIGS), ("vocab_file", vocabulary.NAMES)):
        candidates = [os.path.join(folder, name) for name in names]
        if flag == "bert_config_file":
            candidates.append(path + ".json")  # of this program, from before it wrote config.json
        # What is no regular file is taken too: the check of the flag then says what it is.
        found = [name for name in candidates if os.path.exists(name) and not os.path.isdir(name)]
        if folder and found and not getattr(flags, flag):
            changes[flag] = found[0]
    return _asked(dataclasses.replace(flags, **changes))


def _asked(flags: SquadFlags) -> SquadFlags:
    """Ask a model as it was trained to be asked; give one that is trained no more tokens than it can have."""
    changes: dict[str, Any] = {}
    with suppress(ValueError):  # `settle` says what is damaged
        said = _recorded(flags)
        free = {name for name in said if name not in flags.given or getattr(flags, name) == "auto"}
        changes = {name: said[name] for name in free - {"threshold"}}
    if "max_seq_length" not in changes and "max_seq_length" not in flags.given and not flags.preset:
        changes["max_seq_length"] = min([flags.max_seq_length, *_most_tokens(flags)])
    return dataclasses.replace(flags, **changes)


def _recorded(flags: SquadFlags) -> dict[str, Any]:
    """Read how a model was trained to be asked; more tokens than an .onnx file takes count for nothing.

    ValueError: what is damaged.
    """
    said = {} if flags.do_train or not flags.init_checkpoint else task.recorded(flags.init_checkpoint)
    fixed = engine.columns(flags)
    if fixed and said.get("max_seq_length", 0) > fixed:
        del said["max_seq_length"]
    return said


def _most_tokens(flags: SquadFlags) -> Iterator[int]:
    """Read how long a row can be: the positions, transformers' model_max_length, an .onnx file's columns."""
    yield from filter(None, [engine.columns(flags)])
    beside = os.path.join(index.folder_of(flags.init_checkpoint), text_rules.CONFIG)
    for path, name in ((flags.bert_config_file, "max_position_embeddings"), (beside, "model_max_length")):
        with suppress(ValueError):
            value = read_values(path).get(name) if os.path.isfile(path) else None
            if type(value) is int and value > 0:
                yield value


def missing(flag: str, flags: SquadFlags) -> str:
    """Say what the folder of init_checkpoint has in place of its configuration or vocabulary."""
    folder = index.folder_of(flags.init_checkpoint)
    if not folder or not os.path.isdir(folder):
        return ""
    if flag == "bert_config_file":
        return f"; {folder} has neither {' nor '.join(CONFIGS)}"
    other = [
        f"{name} ({kind})" for name, kind in _OTHER_VOCABULARIES if os.path.exists(os.path.join(folder, name))
    ]
    but = f", but {other[0]}, which is no BERT's" if other else ""
    return f"; {folder} has neither {' nor '.join(vocabulary.NAMES)}{but}"


def other_model(flags: SquadFlags) -> str:
    """Say that the configuration is that of another model than BERT; "" if it is not, or cannot be read."""
    try:
        values = read_values(flags.bert_config_file)
    except ValueError:
        return ""
    try:
        refuse_other_models(values)
    except ValueError as error:
        return f"{flags.bert_config_file}: {error}"
    return ""


def settle(flags: SquadFlags, given: SquadFlags, report: Report) -> SquadFlags:
    """Compare the model's files with each other and with the flags; return the flags with nothing left open.

    given: the flags before `with_model_files`.
    """
    _say_where(flags, given, report)
    config, words = _config(flags, report), _vocabulary(flags, report)
    if config is None or words is None:
        return flags
    facts = index.record(flags.init_checkpoint) if flags.init_checkpoint else {}
    _compare_sizes(flags, config, words, report)
    _compare_words(flags, words, facts, report)
    _compare_asked(flags, given, report)
    if flags.init_checkpoint and flags.engine == "tensorflow":
        _inspect(flags, config, report)
        if not report.findings:  # else shapes have told it
            _compare_models(flags, config, facts, report)
    changes: dict[str, Any] = dict(_rules(flags, words, facts, report))
    changes["gelu"] = _gelu(flags, config, facts, report)
    return dataclasses.replace(flags, **changes)


def _say_where(flags: SquadFlags, given: SquadFlags, report: Report) -> None:
    """Say which of several checkpoints is taken, and that a vocabulary was derived."""
    folder = given.init_checkpoint
    held = index.prefixes_in(folder) if os.path.isdir(folder) else []
    if len(held) > 1 and flags.init_checkpoint in held:
        newer = index.newer(held, flags.init_checkpoint)
        why = f", as {', '.join(map(os.path.basename, newer))} is not complete" if newer else ""
        text = f"{folder} holds {len(held)} checkpoints; {flags.init_checkpoint} is taken{why}"
        report.say("init_checkpoint", text)
    if not given.vocab_file and flags.vocab_file.endswith(".json"):
        report.say("vocab_file", f"{flags.vocab_file} is read, as there is no vocab.txt")


def _config(flags: SquadFlags, report: Report) -> BertConfig | None:
    path = flags.bert_config_file
    try:
        values = read_values(path)
        config = BertConfig.from_dict(values)
    except ValueError as error:
        report.refuse("bert_config_file", f"{path}: {error}")
        return None
    unknown = unknown_keys(values)
    if unknown:
        more = ", ..." if len(unknown) > 5 else ""
        report.say("bert_config_file", f"{path} says {', '.join(unknown[:5])}{more}, which is not known here")
    if config.type_vocab_size < 2:
        report.refuse(
            "bert_config_file", f"{path}: type_vocab_size is 1; question and passage need 2 (RoBERTa has 1)"
        )
    return config


def _vocabulary(flags: SquadFlags, report: Report) -> Vocabulary | None:
    try:
        found = vocabulary.read(flags.vocab_file)
    except ValueError as error:
        report.refuse("vocab_file", f"{flags.vocab_file}: {error}")
        return None
    for note in found.notes:
        report.say("vocab_file", f"{flags.vocab_file}: {note}")
    return found


def _compare_sizes(flags: SquadFlags, config: BertConfig, words: Vocabulary, report: Report) -> None:
    """A vocabulary may be smaller than the table of the model, which is then padded, but not larger."""
    padding, length, positions = (
        config.vocab_size - words.size, flags.max_seq_length, config.max_position_embeddings,
    )  # fmt: skip
    text = f"{flags.vocab_file} has {words.size} entries, {flags.bert_config_file} says vocab_size"
    if not 0 <= padding <= _MOST_PADDING:
        report.refuse("vocab_file", f"{text} {config.vocab_size}; give files of the same model")
    elif padding > _ROUNDED:
        report.say("vocab_file", f"{text} {config.vocab_size}; the last {padding} are taken for padding")
    if length > positions:
        report.refuse("max_seq_length", f"{length} is more than the model's {positions} positions")
    fixed = engine.columns(flags)
    if fixed and length > fixed:
        text = f"{length} tokens, the .onnx file is made for {fixed}; give {fixed}, or another file"
        report.refuse("max_seq_length", text)


def _compare_words(flags: SquadFlags, words: Vocabulary, facts: Mapping[str, Any], report: Report) -> None:
    """Compare the vocabulary with the one that a checkpoint of this program was trained with."""
    data = facts.get("data")
    trained = data.get("vocabulary") if isinstance(data, dict) else None
    if not isinstance(trained, dict) or trained.get("sha256") in (None, words.sha256):
        return
    text = f"{flags.vocab_file} is not the vocabulary that {flags.init_checkpoint} was trained with"
    if flags.do_train:
        report.say("vocab_file", f"{text}; its words' weights are taken line by line")
    else:
        report.refuse("vocab_file", f"{text}; give that one, or leave the flag out")


def _compare_asked(flags: SquadFlags, given: SquadFlags, report: Report) -> None:
    """Say where a model is asked otherwise than by the flags' defaults, or than it was trained to be."""
    try:
        said = _recorded(flags)
    except ValueError as error:
        report.refuse("init_checkpoint", f"{flags.init_checkpoint}: {error}")
        return
    if flags.max_seq_length < given.max_seq_length and "max_seq_length" not in said:
        report.say("max_seq_length", f"{flags.max_seq_length}, as the model's files allow no more")
    taken = [name for name in said if getattr(given, name, "auto") not in ("auto", getattr(flags, name, 0))]
    if taken:
        listed = ", ".join(f"{name} {said[name]}" for name in taken)
        report.say("init_checkpoint", f"asked as it was trained: {listed}")
    for name, value in said.items():
        wish = getattr(flags, name, value)
        if wish != value and name != "n_best_size":
            report.say(
                name, f"{flags.init_checkpoint} was trained with {value}; {wish} is used, as the flag says"
            )


def _compare_models(flags: SquadFlags, config: BertConfig, facts: Mapping[str, Any], report: Report) -> None:
    """Compare a configuration given with the checkpoint's own: heads and epsilon have no shape that tells."""
    own: Any = facts.get("model")
    if not isinstance(own, dict):
        folder = index.folder_of(flags.init_checkpoint)
        beside = next(filter(os.path.isfile, (os.path.join(folder, name) for name in CONFIGS)), "")
        if not folder or not beside or os.path.realpath(beside) == os.path.realpath(flags.bert_config_file):
            return
        with suppress(ValueError):
            own = dataclasses.asdict(BertConfig.from_file(beside))
    for name in ("num_attention_heads", "layer_norm_eps") if isinstance(own, dict) else ():
        now = getattr(config, name)
        if own.get(name, now) != now:
            text = f"{flags.bert_config_file} says {name} {now}, {flags.init_checkpoint} is of {own[name]}"
            report.refuse("bert_config_file", f"{text}; leave the flag out")


def _inspect(flags: SquadFlags, config: BertConfig, report: Report) -> None:
    """Compare the checkpoint with the configuration, and with the task."""
    path = flags.init_checkpoint
    try:
        found = inspection.inspect(path, config)
    except (OSError, ValueError) as error:
        report.refuse("init_checkpoint", f"{path}: {error}")
        return
    for problem in found.problems[:_SHOWN]:
        report.refuse("init_checkpoint", f"{path}: {problem}")
    if len(found.problems) > _SHOWN:
        report.refuse("init_checkpoint", f"{path}: {len(found.problems) - _SHOWN} more of this kind")
    for note in found.notes:
        report.say("init_checkpoint", f"{path}: {note}")
    if not found.has_head and not found.problems and not flags.do_train:
        report.refuse(
            "init_checkpoint",
            f"{path} has no span head (cls/squad, qa_outputs), so its answers would be random;"
            f" give a fine-tuned checkpoint{', or do_train=True' if flags.do_predict else ''}",
        )


def _gelu(flags: SquadFlags, config: BertConfig, facts: Mapping[str, Any], report: Report) -> str:
    """Choose the form of gelu: the flag's, the one trained with, or that of hidden_act."""
    if flags.engine == "onnxruntime":
        if flags.gelu and flags.gelu != config.gelu:
            report.say("gelu", f"no effect; {flags.init_checkpoint} computes {config.gelu}")
        return config.gelu
    recorded = recorded_gelu(facts)
    said = f"{flags.bert_config_file} says hidden_act {config.hidden_act} ({config.gelu})"
    if recorded:
        said = f"{flags.init_checkpoint} was trained with {recorded}"
    wanted = recorded or config.gelu
    if flags.gelu and flags.gelu != wanted:
        by = "flag" if "gelu" in flags.given else f"preset {flags.preset}"
        report.say("gelu", f"{said}; {flags.gelu} is computed, as the {by} says")
    elif not flags.gelu and wanted != config.gelu:
        report.say(
            "gelu", f"{said}, so that is computed; hidden_act {config.hidden_act} would be {config.gelu}"
        )
    return flags.gelu or wanted


def _rules(
    flags: SquadFlags, words: Vocabulary, facts: Mapping[str, Any], report: Report
) -> dict[str, bool | None]:
    """Choose what is done to texts: as the flags say, else as the files do; say where they differ."""
    folders = [os.path.dirname(flags.vocab_file), index.folder_of(flags.init_checkpoint)]
    try:
        found = text_rules.find([*dict.fromkeys(filter(None, folders))], facts, words)
    except ValueError as error:
        report.refuse("vocab_file", str(error))
        return {}
    for note in found.notes:
        report.say("vocab_file", note)
    _say_case(flags, found, words, report)
    chosen = {}
    for name, value in found.values().items():
        wish = getattr(flags, name)
        chosen[name] = value if wish is None else wish
        if name != "do_lower_case" and None not in (wish, value) and wish != value:
            said = "the tokenizer's files say" if found.guessed else f"{found.source} says"
            report.say(name, f"{said} {value}; the flag is obeyed")
    return chosen


def _say_case(flags: SquadFlags, found: text_rules.TextRules, words: Vocabulary, report: Report) -> None:
    """Say where the case is not the usual one, or not the one that flag, files and vocabulary agree on."""
    wish, value, source = flags.do_lower_case, found.do_lower_case, found.source
    said = source if found.guessed else f"{source} says {value}"
    if wish is None and not value:
        report.say("do_lower_case", f"False, as the model is cased: {said}")
    elif wish is not None and wish != value and source:
        report.say("do_lower_case", f"{wish}, as the flag says, though {said}")
    elif wish is False and value and words.has_letters:
        report.say("do_lower_case", "False, though the vocabulary has no words with capital letters")
    if value and wish is None and words.is_cased:
        text = f"True, as {source} says, though the vocabulary has words with capital letters"
        report.say("do_lower_case", text)
