"""A training of a second for tests of `npu-launch repeat`: its answers depend on its seed and its skill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = 40

# It takes up its checkpoint, waits for `hold` to go, fails for seeds of `fails`, and writes its answers; or
# nothing but the figure `only`.
PROGRAM = """
import json, os, random, sys, time
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
seed = int(flags["seed"])
here = os.environ["NPU_LAUNCH_RANK_DIR"]
count = int(open("checkpoint").read()) if os.path.exists("checkpoint") else 0
with open("starts", "a") as stream:
    stream.write("%d %s %s\\n" % (count, os.environ["DEVICE_ID"], sorted(os.sched_getaffinity(0))))
with open("checkpoint", "w") as stream:
    stream.write(str(count + 1))
while os.path.exists(flags.get("hold", "/nonexistent") + "-%d" % seed):
    time.sleep(0.02)
if str(seed) in flags.get("fails", "").split(","):
    sys.exit("no luck with seed %d" % seed)
draw = random.Random(seed)
data = json.load(open(flags["predict_file"]))
found, right = {}, 0
for paragraph in data["data"][0]["paragraphs"]:
    for question in paragraph["qas"]:
        good = draw.random() < float(flags["skill"])
        right += good
        found[question["id"]] = question["answers"][0]["text"] if good else "something else"
figure = 100.0 * right / len(found)
with open(os.path.join(here, "artifacts.jsonl"), "w") as stream:
    if "only" not in flags:
        json.dump(found, open("predictions.json", "w"))
        stream.write(json.dumps({"kind": "predictions", "files": ["predictions.json"]}) + "\\n")
    names = [flags["only"]] if "only" in flags else ["exact_match", "f1"]
    stream.write(json.dumps({"kind": "metrics", "values": dict.fromkeys(names, figure)}) + "\\n")
"""


def write_job(folder: Path, **args: Any) -> Path:
    """Write a job of the training above, and its data; return the job file."""
    (folder / "train.py").write_text(PROGRAM)
    paragraphs = []
    for number in range(0, QUESTIONS, 4):
        qas = [
            {"id": f"q{n}", "question": "?", "answers": [{"text": f"blue {n}", "answer_start": 0}]}
            for n in range(number, number + 4)
        ]
        paragraphs.append({"context": f"blue {number}", "qas": qas})
    data = {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}
    (folder / "dev.json").write_text(json.dumps(data))
    lines = [
        "job: tiny",
        f"program: {folder}/train.py",
        "backend: cpu",
        "env: {OMP_NUM_THREADS: '1'}",
        "args:",
    ]
    values = {"predict_file": str(folder / "dev.json"), "skill": 0.6, **args}
    lines += [f"  {name}: {json.dumps(value)}" for name, value in values.items()]
    (folder / "job.yaml").write_text("\n".join(lines) + "\n")
    return folder / "job.yaml"


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    """Start `npu-launch repeat WORDS` in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "launcher", "repeat", *map(str, words)],
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def repeat(folder: Path, *words: object) -> tuple[int, str, str]:
    """Run `npu-launch repeat WORDS`: exit code, stdout, stderr."""
    process = start(folder, *words)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def folder_of(cwd: Path) -> Path:
    """Return the folder of the only repeat made in `cwd`."""
    (found,) = cwd.glob("runs/repeat-*")
    return found


def states(folder: Path) -> dict[int, str]:
    """Return the state of each seed."""
    return {run["seed"]: run["state"] for run in json.loads((folder / "repeat.json").read_text())["runs"]}
