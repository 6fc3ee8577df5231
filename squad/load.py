"""Load the rows of a SQuAD file: built from its JSON, or read from the record cache."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable

from squad.data import characters, feature_cache
from squad.data.examples import Example, overlap, paused_gc, read_squad
from squad.data.features import Features, build_features
from squad.data.squad_file import load_questions
from squad.flags import SquadFlags
from squad.held import NOTHING, Held
from squad.job import Dataset, Job
from squad.progress import progress_bar


class Source:
    """A file of questions, parsed once for all that look at it before its rows are made."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._document: Any = None

    def look(self) -> Any:
        """Return what the file holds, and keep it. DataError: it cannot be read."""
        if self._document is None:
            with paused_gc():
                self._document = load_questions(self.path)
        return self._document

    def take(self) -> Any:
        """Return what is kept, or None; it is kept no longer, as it takes several times the file's size."""
        document, self._document = self._document, None
        return document


def with_word_split(job: Job, source: Source) -> Job:
    """Choose how answers are known if neither a flag nor the checkpoint says it: by the file read first.

    Raises:
        DataError: that file cannot be read.
    """
    if job.flags.word_split != "auto":
        return job
    choice = characters.choose(source.look())
    job.say(f"{source.path}: {choice}")
    return dataclasses.replace(job, flags=dataclasses.replace(job.flags, word_split=choice.split))


def load(job: Job, path: str, training: bool, held: Held = NOTHING, source: Source | None = None) -> Dataset:
    """Load the rows of a file. Training rows go through the cache if input_files_dir is given.

    held: questions of a training file that are not trained on; not training, they are the only ones.
    source: the file, where it has been looked at; what it keeps is taken.

    Raises:
        DataError: the file, the vocabulary or the cache's folder cannot be used.
    """
    examples: list[Example] = []

    def build() -> Features:
        examples.extend(_read(job, path, training, held, source.take() if source else None))
        return _build(job, examples, training)

    cached = training and bool(job.flags.input_files_dir)
    if cached and held.ids:  # its rows do not say of which articles they are
        job.say("input_files_dir: not used, as eval_share leaves out rows of train_file")
    features = _cached(job, path, build) if cached and not held.ids else build()
    if source:  # a cache has not read the file
        source.take()
    if training and job.flags.steps_from == "examples" and not examples:  # a cache does not say how many
        examples.extend(_read(job, path, training, held))
    asked = len({example.qas_id for example in examples})  # with several answers there are more examples
    questions = f"{asked} questions, " if examples else ""
    job.say(f"{path}: {questions}{len(features)} features")
    return Dataset(features, examples)


def warn_of_overlap(job: Job, train_set: Dataset, dev_set: Dataset) -> None:
    """Warn if questions to answer are among those trained on."""
    same = overlap(train_set.examples, dev_set.examples)
    if same:
        job.say(
            f"warning: {same} of the {len(dev_set.examples)} questions of predict_file are in train_file too;"
            " the figures will say nothing about new questions"
        )


def _read(job: Job, path: str, training: bool, held: Held, document: Any = None) -> list[Example]:
    """Read the questions of a file; if some are held back, those to train on, or else the held ones."""
    flags = job.flags
    limit = flags.max_train_samples if training else flags.max_eval_samples
    rules = (flags.version_2_with_negative, flags.skip_bad_answers, flags.train_answers, limit)
    found = read_squad(path, training, *rules, *_words(flags), _wanted(held, training), document)
    for note in found.notes if training or not held.ids else ():
        job.say(note)
    if flags.num_eval_iterations and not (training or held.ids):
        return found[: flags.num_eval_iterations * flags.predict_batch_size]
    return found


def _wanted(held: Held, training: bool) -> Callable[[str], bool] | None:
    return (lambda qas_id: (qas_id in held.ids) != training) if held.ids else None


def _build(job: Job, examples: list[Example], training: bool) -> Features:
    flags = job.flags
    sizes = (flags.max_seq_length, flags.doc_stride, flags.max_query_length)
    with progress_bar("features") as bar:
        return build_features(examples, job.tokenizer, *sizes, training, maps=not training, progress=bar)


def _words(flags: SquadFlags) -> tuple[str, bool]:
    """Return how words are divided, and whether Chinese characters are words."""
    return flags.word_split, flags.text_rules[2]


def _unusual_rules(flags: SquadFlags) -> dict[str, bool]:
    """Return the rules for texts that are not the usual ones: a cache made by these stays usable."""
    lower, accents, chinese = flags.text_rules
    rules = {} if accents in (None, lower) else {"strip_accents": not lower}
    return rules if chinese else {**rules, "tokenize_chinese_chars": False}


def _choice(flags: SquadFlags) -> dict[str, Any]:
    """Return which questions and answers are taken, and how, if not as usual: usual caches stay usable."""
    chosen: dict[str, Any] = {
        "train_answers": flags.train_answers,
        "max_train_samples": flags.max_train_samples,
        "word_split": flags.word_split if flags.word_split == "cjk" else "",
    }
    return {name: value for name, value in chosen.items() if value}


def _cached(job: Job, path: str, build: feature_cache.Build) -> Features:
    flags, cluster = job.flags, job.cluster
    key = feature_cache.cache_key(
        path,
        flags.vocab_file,
        max_seq_length=flags.max_seq_length,
        doc_stride=flags.doc_stride,
        max_query_length=flags.max_query_length,
        do_lower_case=flags.text_rules[0],
        version_2_with_negative=flags.version_2_with_negative,
        skip_bad_answers=flags.skip_bad_answers,
        **_unusual_rules(flags),
        **_choice(flags),
    )
    cache = feature_cache.Cache(
        folder=flags.input_files_dir,
        key=key,
        reuse=flags.use_tfrecord,
        run_id=f"{cluster.run_id}-{cluster.attempt}",
        first=cluster.rank == 0 if cluster.shares_disk else cluster.first_on_host,
    )
    return feature_cache.load_or_build(cache, build)
