"""Cut passages into overlapping windows: which tokens each row of the model's input contains.

All functions work on whole arrays, with one entry per question (N) or row (R).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Windows:
    """The windows of all rows, one entry per row [R]; tokens count from the start of the passage."""

    example: np.ndarray  # question of the row
    number: np.ndarray  # which window of the question, from 0
    start: np.ndarray  # first token of the window
    length: np.ndarray  # tokens in the window
    total: np.ndarray  # tokens of the row, including [CLS] and both [SEP]
    head: np.ndarray  # column of the window's first token, after [CLS] question [SEP]
    step: np.ndarray  # tokens between the starts of neighbouring windows of the question
    room: np.ndarray  # the most tokens of a window of the question
    passage: np.ndarray  # tokens of the whole passage


def cut(passage: np.ndarray, question: np.ndarray, max_seq_length: int, doc_stride: int) -> Windows:
    """Cut windows for questions and passages of the given numbers of tokens [N].

    Raises:
        ValueError: a question leaves no room for a passage, or the stride is below 1.
    """
    room = max_seq_length - 3 - question
    if len(room) and room.min() < 1:
        longest = int(question.max())
        raise ValueError(
            f"max_seq_length {max_seq_length}: no room for a passage beside a question of {longest} tokens; "
            "raise it or lower max_query_length"
        )
    if doc_stride < 1:
        raise ValueError(f"doc_stride {doc_stride}: windows would never advance; give 1 or more")
    step = np.minimum(room, doc_stride)
    windows = np.where(passage > room, 1 - (room - passage) // step, np.minimum(passage, 1))
    example = np.repeat(np.arange(len(passage)), windows)
    number = np.arange(len(example)) - np.repeat(np.cumsum(windows) - windows, windows)
    start = number * step[example]
    length = np.minimum(room[example], passage[example] - start)
    head = question[example] + 2
    fields = (example, number, start, length, head + length + 1, head, step[example], room[example])
    return Windows(*(field.astype(np.int32) for field in (*fields, passage[example])))


def answer_columns(windows: Windows, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the answer tokens first..last [N] in each row: (start, end) columns [R], 0 if not inside."""
    begin, end = first[windows.example], last[windows.example]
    within = (begin >= windows.start) & (end <= windows.start + windows.length - 1)
    shift = windows.head - windows.start
    return (np.where(within, begin + shift, 0).astype(np.int32),
            np.where(within, end + shift, 0).astype(np.int32))  # fmt: skip


def is_max_context(windows: Windows, rows: slice, inside: np.ndarray) -> np.ndarray:
    """Mark the tokens whose best window is this one: int8 like `inside`, 1 or 0; -1 outside the passage.

    The best window of a token is the one with the most context on the side that has less, plus a hundredth of
    the window's length; the first one wins a tie (google-research/bert, _check_is_max_context).

    Args:
        rows: the windows to mark.
        inside: [rows, columns] bool, the columns with tokens of the passage.
    """
    best = 2 * inside.astype(np.int8) - 1
    several = np.flatnonzero(windows.passage[rows] > windows.room[rows])
    if len(several):
        index = rows.start + several
        column = np.arange(inside.shape[1], dtype=np.int32)
        token = column - windows.head[index, None] + windows.start[index, None]
        best[several] &= np.where(inside[several], _wins(windows, index, token), -1).astype(np.int8)
    return best


def _wins(windows: Windows, rows: np.ndarray, token: np.ndarray) -> np.ndarray:
    """Compare the rows' windows with their neighbours for every token [rows, columns]."""
    start, step, room, passage, number = (
        a[rows, None] for a in (windows.start, windows.step, windows.room, windows.passage, windows.number)
    )
    own = _context(token, start, np.minimum(room, passage - start))
    wins = np.ones(token.shape, bool)
    reach = int(((room - 1) // step).max())
    for distance in range(1, reach + 1):
        for side in (-1, 1):
            other = start + side * distance * step
            length = np.minimum(room, passage - other)
            # The window that reaches the passage's end is the last one.
            exists = (number + side * distance >= 0) & (other - step + room < passage)
            holds = exists & (token >= other) & (token < other + length)
            score = _context(token, other, length)
            wins &= ~(holds & (score >= own if side < 0 else score > own))
    return wins


def _context(token: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    context: np.ndarray = np.minimum(token - start, start + length - 1 - token) + 0.01 * length
    return context
