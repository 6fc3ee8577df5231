"""The import path of squad.data.tokenizer before 0.1.0, kept for one release."""

from squad.data.tokenizer import Tokenizer, basic_tokens, load_vocab

__all__ = ["Tokenizer", "basic_tokens", "load_vocab"]
