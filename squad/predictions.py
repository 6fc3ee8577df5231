"""The import path of squad.answers.nbest before 0.1.0, kept for one release."""

from squad.answers.nbest import Answers, Options, write_files
from squad.answers.nbest import find_answers as predictions

__all__ = ["Answers", "Options", "predictions", "write_files"]
