"""The bundle of doctor for a bug report: complete, and without secrets."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from pathlib import Path

import pytest
import yaml

from launcher.checks import bundle, doctor
from launcher.checks.bundle import write_bundle
from launcher.checks.finding import Finding
from launcher.checks.machine import RecordingMachine
from tests.launcher.machines import server, table, write


def test_the_bundle_holds_the_answers_without_secrets_and_replaces_nothing(tmp_path: Path) -> None:
    machine = server(tmp_path, table() + "proxy http://me:hunter2@proxy:80/ password=hunter2\n")
    machine.environ = {**machine.environ, "AWS_SECRET_ACCESS_KEY": "hunter2", "HOME": "/home/me"}
    write(tmp_path, "run/report.txt", "token: hunter2\nrank 3 failed\n")
    path = str(tmp_path / "bundle.tar.gz")
    members = write_bundle(path, machine, doctor.examine(machine), str(tmp_path / "run"))
    with tarfile.open(path) as tar:
        texts = {m.name: tar.extractfile(m).read().decode() for m in tar.getmembers()}  # type: ignore[union-attr]
    assert len(texts) == len(members) and not [name for name, text in texts.items() if "hunter2" in text]
    assert "rank 3 failed" in texts["npu-launch-doctor/run/report.txt"]
    assert "/home/me" in texts["npu-launch-doctor/environment.json"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_bundle(path, machine, [])


PLANTED = {
    "OBS_SK": "leak-1",
    "DB_PWD": "leak-2 and leak-3, leak-4",
    "MY_PASSWORD": "'leak-5' \"leak-6",
    "SLACK_WEBHOOK_URL": "https://hooks.example.com/leak-7",
    "http_proxy": "http://me:leak-8@proxy:80/",
}


def test_a_run_of_the_bundle_holds_no_secret_in_any_of_its_files(tmp_path: Path) -> None:
    machine = RecordingMachine(PLANTED, str(tmp_path), folder=str(tmp_path))
    texts = "".join(f"{name}={value}\n" for name, value in PLANTED.items())
    documents = {
        "plan.json": json.dumps({"ranks": [{"env": PLANTED, "argv": ["x", "--token", "leak-9"]}]}),
        "train.yaml": yaml.safe_dump({"env": PLANTED, "args": {"hub_token": "leak-10"}}),
        "result.json": json.dumps({"metrics": {"exact": 70.5}, "command": "x --api-key leak-11"}),
        "events.jsonl": json.dumps({"data": PLANTED}) + "\n" + '{"data": {"DB_PWD": "leak-12 half',
        "report.txt": texts + "  raised with password=leak-13, leak-14\n",
        "rank_table.json": "{" + json.dumps(PLANTED),
    }
    for name, text in documents.items():
        write(tmp_path, f"run/{name}", text)
    os.mkfifo(str(tmp_path / "run" / "launcher.log.fifo"))
    (tmp_path / "run" / "logs").mkdir()
    (tmp_path / "run" / "logs" / "launcher.log").symlink_to(tmp_path / "run" / "launcher.log.fifo")
    members = bundle._run_files(str(tmp_path / "run"))
    assert not [name for name, text in members.items() if "leak" in text]
    assert "70.5" in members["run/result.json"] and "http_proxy" in members["run/plan.json"]
    assert "a link (expected a regular file)" in members["run/logs/launcher.log"]
    write_bundle(str(tmp_path / "b.tgz"), machine, [Finding("x", "ok", "quotes leak-2 and leak-3, leak-4")])
    with tarfile.open(str(tmp_path / "b.tgz")) as tar:
        assert not [m for m in tar.getmembers() if b"leak" in tar.extractfile(m).read()]  # type: ignore[union-attr]
