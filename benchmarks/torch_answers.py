"""Compute the span logits of a question file with transformers. Needs torch and transformers.

    python benchmarks/torch_answers.py FOLDER QUESTIONS padded|sorted

Rows as run_qa.py makes them: windows of 384 tokens that share 128 (fewer than windows 128 apart). Batches
of 8. padded: every row to 384, as run_qa.py does by default; sorted: similar lengths together, each batch as
long as its longest row.
"""

from __future__ import annotations

import json
import os
import sys

ROWS = 8


def main(argv: list[str]) -> int:
    """Run a command line; return 0 also where there is nothing to do, as `make bench` starts scripts bare."""
    if len(argv) != 3:
        print("usage: torch_answers.py FOLDER QUESTIONS padded|sorted")
        return 0
    folder, path, way = argv
    import torch
    from transformers import AutoTokenizer, BertForQuestionAnswering

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertForQuestionAnswering.from_pretrained(folder).eval()
    with open(path, encoding="utf-8") as stream:
        paragraphs = [p for article in json.load(stream)["data"] for p in article["paragraphs"]]
    pairs = [(qa["question"].lstrip(), p["context"]) for p in paragraphs for qa in p["qas"]]
    rows = tokenizer(
        [question for question, _ in pairs], [context for _, context in pairs], truncation="only_second",
        max_length=384, stride=128, return_overflowing_tokens=True, return_offsets_mapping=True,
        padding="max_length" if way == "padded" else False,
    )  # fmt: skip
    ids = rows["input_ids"]
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.inference_mode():
        for first in range(0, len(order), ROWS):
            taken = order[first : first + ROWS]
            batch = tokenizer.pad(
                {name: [rows[name][row] for row in taken] for name in names}, return_tensors="pt"
            )
            made = model(**batch)
            made.start_logits.numpy(), made.end_logits.numpy()
    print(f"{len(ids)} features")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
