"""A BERT of two layers on a few hundred questions: what is trained to see whether an adapter works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.adapter.ranks import ROOT

STEPS, EVERY, LOOP = 12, 6, 4  # a run, its checkpoints, and the loop on the device
ENDS = [4, 6, 10, 12]  # steps at which the loops 4, 2, 4, 2 end
_MODEL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 128, "type_vocab_size": 2, "initializer_range": 0.05,
}  # fmt: skip
_DEVICES = "[{device_id: 0, device_ip: 192.168.1.1}, {device_id: 1, device_ip: 192.168.1.2}]"


def make(folder: Path) -> None:
    """Write model, data, job.yaml, and inventory.yaml of a host with two NPUs that are not there."""
    script = [sys.executable, str(ROOT / "examples" / "make_squad_demo.py"), "--output", str(folder)]
    subprocess.run(script, check=True, stdout=subprocess.DEVNULL)
    letters = sorted(set((folder / "train.json").read_text(encoding="utf-8").lower()) - set(" \n\t\u2028"))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (folder / "bert_config.json").write_text(json.dumps(dict(_MODEL, vocab_size=len(tokens))))
    (folder / "inventory.yaml").write_text(f"hosts:\n  - server_id: 10.0.0.1\n    devices: {_DEVICES}\n")
    (folder / "job.yaml").write_text(
        "job: tiny\nprogram: squad.run_squad\ndevices: 0-1\nargs:\n"
        "  train_file: train.json\n  predict_file: dev.json\n"
        "  vocab_file: vocab.txt\n  bert_config_file: bert_config.json\n"
        "  do_train: true\n  do_predict: true\n  version_2_with_negative: true\n"
        "  max_seq_length: 64\n  doc_stride: 32\n  max_query_length: 24\n"
        f"  global_batch_size: 8\n  learning_rate: 1.0e-3\n  num_train_steps: {STEPS}\n"
        f"  save_checkpoints_steps: {EVERY}\n  display_loss_steps: 1\n  npu_bert_debug: true\n"
    )
