"""The share of a training file that is held back, by whole articles, to evaluate on while training.

Questions about one article share names, facts and often sentences, so a question is only new to a model
that has read nothing of its article.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Iterator

from squad.data import layouts
from squad.data.questions import PREDICTION, Reader
from squad.data.squad_file import load_questions
from squad.errors import DataError


@dataclass(frozen=True)
class Held:
    """Which questions of a training file are held back."""

    ids: frozenset[str]
    digest: str  # of the ids; "": none are
    share: float
    text: str = ""  # a line that says what is held


NOTHING = Held(frozenset(), "", 0.0)


def choose(path: str, share: float, seed: int, document: Any = None) -> Held:
    """Choose articles until they have `share` of the questions; which ones, the seed and their titles say.

    document: what load_questions has returned for the file; None: it is parsed here.

    An article is what has a title of its own; where rows or articles have none, a context or an entry.

    Raises:
        DataError: the file cannot be read, or is a single article.
    """
    if not share:
        return NOTHING
    articles: dict[str, list[str]] = {}
    for article, qas_id in _questions(path, load_questions(path) if document is None else document):
        articles.setdefault(article, []).append(qas_id)
    if len(articles) < 2:
        raise DataError(f"{path}: all questions are of one article; give predict_file instead of eval_share")
    total = sum(map(len, articles.values()))
    held: list[str] = []
    count = 0
    for article in sorted(articles, key=lambda name: _place(name, seed))[:-1]:  # one at least is trained on
        if len(held) >= share * total:
            break
        held += articles[article]
        count += 1
    text = (
        f"{path}: {len(held)} of {total} questions, those of {count} of {len(articles)} articles, are held"
        f" back to evaluate on (eval_share {share:g}, seed {seed})"
    )
    return Held(frozenset(held), _digest("\0".join(sorted(held))), share, text)


def _questions(path: str, document: Any) -> Iterator[tuple[str, str]]:
    """Yield the article and the id of each question."""
    found = layouts.find(document)
    titles: dict[int, Any] = {}
    if not isinstance(found, str):
        titles = {number: entry.get("title") for number, entry in found.entries if isinstance(entry, dict)}
    firsts: dict[int, str] = {}
    reader = Reader(path, PREDICTION)
    for context, questions in reader.read(document):
        for question in questions:
            entry = question.place[0]
            yield str(titles.get(entry) or firsts.setdefault(entry, context)), question.id
    reader.finish()


def _place(article: str, seed: int) -> str:
    return _digest(f"{seed}\0{article}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
