"""The import path of squad.answers.answer_text before 0.1.0, kept for one release."""

from squad.answers.answer_text import AnswerText, align

__all__ = ["AnswerText", "align"]
