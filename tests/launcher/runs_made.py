"""Run folders as a launcher leaves them, made without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping, Sequence

from launcher.plan.model import Plan, RankSpec
from launcher.run_dir import RunDir

START = 1700000000.0
SECRET = "hunter2-hunter2"
TOKEN = "hf_" + "a1b2c3d4" * 4


def rows(steps: int, rank: int = 0, slow: int = -1) -> list[dict[str, Any]]:
    """Return what a rank writes each 5 steps; a slow one takes twice its own time from the middle on."""
    found = []
    for step in range(5, 5 * steps + 1, 5):
        own = 1.5 + 0.01 * ((step + rank) % 7)
        own *= 2 if rank == slow and step > 2.5 * steps else 1
        found.append(
            {
                "step": step, "loss": 8.0 / step, "own_loss": 8.1 / step,
                "learning_rate": 1e-5 * (steps * 5 - step),
                "gradient_norm": 1.0 + step % 3, "loss_scale": 1024.0, "skipped_steps": step // 20,
                "examples_per_second": 20.0 + step % 4, "examples_per_second_per_device": 10.0 + step % 4,
                "time": START + step, "epoch": step / 100, "interval_steps": 5, "interval_examples": 40,
                "interval_tokens": 5000, "input_s": 0.01, "own_s": own, "wait_s": 0.3, "save_s": 0.0,
            }
        )  # fmt: skip
    return found


def lines(items: Sequence[Mapping[str, Any]]) -> bytes:
    """Write objects, one a line."""
    return "".join(json.dumps(item) + "\n" for item in items).encode()


def finished(folder: Path, ranks: int = 2, steps: int = 20, **job: Any) -> RunDir:
    """Make the folder of a run that has ended well, unless `code` says otherwise."""
    code = job.get("code", 0)
    run = RunDir.create(folder / "runs" / "made", range(ranks))
    env = {"PWD": str(folder), "MY_PASSWORD": SECRET, "PROXY": f"http://user:{SECRET}@proxy:80"}
    argv = ("/usr/bin/python3", "-m", "train", f"--api_key={SECRET}", "--hub", TOKEN)
    specs = tuple(
        RankSpec(rank, f"host{rank // 8}", rank % 8, rank % 8, rank % 8, argv, env, str(folder))
        for rank in range(ranks)
    )
    table = '{"version": "1.0", "status": "completed"}'
    plan = Plan(job.get("name", "训练 <demo>"), "made", str(run.path), "host0", "cpu", table, specs)
    run.plan.write_text(plan.to_json())
    run.job_yaml.write_text("job: demo\nprogram: train\n")
    ends = [
        {"rank": rank, "state": "raised" if code else "finished", "exit_code": code, "seconds": 60.0,
         "step": steps, "peak_bytes": 2_000_000_000 + rank}
        for rank in range(ranks)
    ]  # fmt: skip
    metrics: dict[str, float] = {"exact": 88.3, "f1": 90.1, "total": 420}
    metrics.update({"HasAns_exact": 97.1, "HasAns_f1": 98.0, "HasAns_total": 280})
    origin = {"launcher": "0.2", "commit": "abc123", "files": [{"option": "data", "path": "/d", "bytes": 5}]}
    result = {
        "job": "demo", "started": START, "seconds": 60.0, "exit_code": code, "ranks": ranks,
        "metrics": metrics, "provenance": origin, "ends": ends, "culprit": 0 if code else None,
    }  # fmt: skip
    run.result.write_text(json.dumps(result))
    events = [{"event": "run", "data": {"run_id": "made"}}]
    events += [{"event": "started", "rank": rank, "data": {"pid": 9}} for rank in range(ranks)]
    events += [{"event": "straggler", "rank": 1, "data": {"kind": "slow rank", "cost": 0.11, "since": 60,
                "text": "rank 1 costs the run 11 %: own work, since step 60"}}]  # fmt: skip
    ended = {"code": code, "seconds": 60.0}
    events += [{"event": "ended", "rank": rank, "data": ended} for rank in range(ranks)]
    events += [{"event": "end", "data": {"exit_code": code}}]
    timed = [{"time": START + place, "rank": None, **one} for place, one in enumerate(events)]
    run.events.write_bytes(lines(timed))
    error = f"rank 0 failed first: ValueError: password={SECRET} \x1b[31m</pre><script>alert(1)</script>"
    run.report.write_text(error + "\n  Traceback ...\n" if code else "finished\n")
    made = [{"name": "model.ckpt-100.index", "size": 7, "sha256": "deadbeef"}]
    (run.checkpoints / "manifest.json").write_text(json.dumps({"files": made}))
    for rank in range(ranks):
        run.log(rank).write_bytes(b"\xff\x00ERROR: </pre><img src=x onerror=alert(1)>\n")
        (run.rank_dir(rank) / "metrics.jsonl").write_bytes(lines(rows(steps, rank, slow=1)))
        counters: dict[str, float] = {"steps": 100, "examples": 800, "tokens": 9}
        counters.update({"input_s": 1.0, "own_s": 30.0, "wait_s": 6.0, "save_s": 0})
        run.heartbeat(rank).write_text(json.dumps({"step": 100, "phase": "train", "time": START, **counters}))
    curve = {"precisions": [1.0, 0.9, 0.7], "recalls": [0.0, 0.5, 0.9], "average": 77.0}
    (run.rank_dir(0) / "precision_recall.json").write_text(json.dumps({"pr_exact": curve, "pr_f1": curve}))
    return run
