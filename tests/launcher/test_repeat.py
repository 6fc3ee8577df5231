"""`npu-launch repeat`, whole: real launches of a training of a moment."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from launcher.config import job as configs
from launcher.errors import LauncherError, PreflightError, UsageError
from launcher.repeat import record
from launcher.repeat.groups import checked, divide
from tests.launcher.repeating import folder_of, repeat, start, states, write_job


def wait(until: Callable[[], Any], process: Any) -> None:
    end = time.monotonic() + 60
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def starts(folder: Path, seed: int) -> list[str]:
    """Return what each start of a seed's rank wrote: how far its checkpoint was, its device, its cores."""
    (path,) = folder.glob(f"seed-{seed}-*/ranks/0/starts")
    return path.read_text().splitlines()


def test_seeds_run_side_by_side_on_their_own_devices_and_cores(tmp_path: Path) -> None:
    write_job(tmp_path, hold=str(tmp_path / "hold"))
    for seed in (1, 2):
        (tmp_path / f"hold-{seed}").touch()
    process = start(tmp_path, "--seeds", "1-3", "--devices", "4-5", "--each", 1, "job.yaml", "skill=0.9")
    wait(lambda: len(list(tmp_path.glob("runs/repeat-*/seed-[12]-*/ranks/0/starts"))) == 2, process)
    folder = folder_of(tmp_path)
    assert states(folder) == {1: "running", 2: "running", 3: "waiting"}
    (tmp_path / "hold-2").unlink()
    wait(lambda: list(folder.glob("seed-3-*")), process)  # on the group that is free first
    (tmp_path / "hold-1").unlink()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert states(folder) == {1: "finished", 2: "finished", 3: "finished"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    first, second, third = (starts(folder, seed)[0].split(" ", 2) for seed in (1, 2, 3))
    assert (first[1], second[1], third[1]) == ("4", "5", "5")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) > 1:
        cores = json.loads(first[2]), json.loads(second[2])
        assert sorted(cores[0] + cores[1]) == allowed
    assert "seed 3: EM " in err and "(3 of 3 finished)" in err
    assert "95 % interval of the mean" in out and "mean" in out and "best seed" in out
    assert (folder / "certificate.json").is_file() and (folder / "seed-1.log").stat().st_size


def test_a_repeat_that_was_killed_goes_on_where_each_seed_was(tmp_path: Path) -> None:
    write_job(tmp_path, hold=str(tmp_path / "hold"))
    (tmp_path / "hold-2").touch()
    words = ("--seeds", "1-3", "job.yaml")
    process = start(tmp_path, *words)
    wait(lambda: list(tmp_path.glob("runs/repeat-*/seed-2-*/ranks/0/checkpoint")), process)
    process.kill()
    process.communicate()
    folder = folder_of(tmp_path)
    assert states(folder)[2] == "running"  # what it was when it was killed
    (tmp_path / "hold-2").unlink()
    code, _, err = repeat(tmp_path, *words)  # the same command
    assert code == 0, err
    assert folder_of(tmp_path) == folder and "1 of 3 seeds have finished and are not run again" in err
    assert [line[0] for line in starts(folder, 1)] == ["0"]
    assert [line[0] for line in starts(folder, 2)] == ["0", "1"]
    assert "seed 2: starts again" in err
    assert set(states(folder).values()) == {"finished"}


def test_a_signal_ends_the_runs_and_says_how_to_go_on(tmp_path: Path) -> None:
    write_job(tmp_path, hold=str(tmp_path / "hold"))
    (tmp_path / "hold-1").touch()
    process = start(tmp_path, "--seeds", "1", "job.yaml")
    wait(lambda: list(tmp_path.glob("runs/repeat-*/seed-1-*/ranks/0/checkpoint")), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    folder = folder_of(tmp_path)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"to go on: npu-launch repeat --resume {folder}" in err
    assert states(folder) == {1: "interrupted"}
    (tmp_path / "hold-1").unlink()
    code, _, err = repeat(tmp_path.parent, "--resume", folder)
    assert code == 0, err
    assert [line[0] for line in starts(folder, 1)] == ["0", "1"]


def test_a_renamed_folder_keeps_its_runs(tmp_path: Path) -> None:
    write_job(tmp_path)
    assert repeat(tmp_path, "--seeds", "1-2", "job.yaml")[0] == 0
    known = json.loads((folder_of(tmp_path) / "certificate.json").read_text())
    folder_of(tmp_path).rename(tmp_path / "base")
    folder = tmp_path / "base"
    code, _, err = repeat(tmp_path, "--resume", folder)
    assert code == 0 and "2 of 2 seeds have finished and are not run again" in err
    again = json.loads((folder / "certificate.json").read_text())
    (then,), (now,) = (one["statistics"]["report"]["sides"] for one in (known, again))
    assert now["runs"] == then["runs"] and again["runs"] == known["runs"]
    code, out, err = repeat(tmp_path, "--seeds", "1-2", "job.yaml", "skill=0.9", "--against", folder)
    assert code == 0 and "against " in out and "told from chance" in out, err


def test_a_folder_that_was_removed_meanwhile_is_one_line(tmp_path: Path) -> None:
    write_job(tmp_path, hold=str(tmp_path / "hold"))
    (tmp_path / "hold-1").touch()
    process = start(tmp_path, "--seeds", "1", "job.yaml")
    wait(lambda: list(tmp_path.glob("runs/repeat-*/seed-1-*/ranks/0/checkpoint")), process)
    folder_of(tmp_path).rename(tmp_path / "elsewhere")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == LauncherError.exit_code and "Traceback" not in err, err
    assert "repeat.json: cannot be written: No such file" in err


def test_a_seed_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    write_job(tmp_path, fails="1")
    code, out, err = repeat(tmp_path, "--seeds", "1,7", "job.yaml")
    assert code == 1
    assert states(folder_of(tmp_path)) == {1: "failed", 7: "finished"}
    assert "seed 1: failed, exit code 1" in err and "not finished: seed 1" in err
    assert "no luck with seed 1" in err or "seed-1.log" in err
    assert "failed (exit code 1)" in out


def test_a_job_that_reports_another_figure_is_repeated_and_compared(tmp_path: Path) -> None:
    write_job(tmp_path, only="accuracy")
    code, _, err = repeat(tmp_path, "--seeds", "1-3", "job.yaml")
    assert code == 0, err
    first = folder_of(tmp_path)
    code, out, err = repeat(tmp_path, "--seeds", "4-6", "job.yaml", "skill=0.95", "--against", first.name)
    assert code == 0, err
    assert "told from chance: accuracy +" in out and f"against {first}: 3 runs, accuracy " in out
    certificates = list(tmp_path.glob("runs/repeat-*/certificate.json"))
    assert [" 0 differs" in repeat(tmp_path, "--verify", path)[1] for path in certificates] == [True, True]


@pytest.mark.parametrize(
    "words, message",
    [
        (["job.yaml"], "--seeds (such as 1-5) is missing"),
        (["--seeds", "1-3"], "a job file is missing"),
        (["--seeds", "1-x", "job.yaml"], "invalid seed"),
        (["--seeds", "1", "--each", "2", "job.yaml"], "--each: 2 (expected 1 to 1"),
        (["--seeds", "1", "--each", "0", "job.yaml"], "--each: 0 (expected 1 or more"),
        (["--seeds", "1", "job.yaml", "seed=3"], "seed: set by repeat for each of its runs"),
        (["--resume", "."], "repeat.json: no such file; give the folder of a repeat"),
        (["--verify", "job.yaml"], "--verify: job.yaml"),
        (["--seeds", "1", "job.yaml", "--against", "x"], "--against: x: no such repeat, run"),
        (["--seeds", "1", "job.yaml", "--against", "job.yaml"], "job.yaml: line 1: Expecting value"),
        (["--seeds", "1", "job.yaml", "--against", "dev.json"], "--against: dev.json: no predictions.json"),
    ],
)
def test_an_invalid_command_line_is_refused_with_exit_code_2(
    tmp_path: Path, words: Any, message: str
) -> None:
    write_job(tmp_path)
    code, _, err = repeat(tmp_path, *words)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err
    assert not (tmp_path / "runs").exists()


def test_a_job_that_no_run_could_start_is_refused_at_once(tmp_path: Path) -> None:
    write_job(tmp_path)
    (tmp_path / "train.py").unlink()
    code, _, err = repeat(tmp_path, "--seeds", "1-3", "job.yaml")
    assert code in (2, 127) and "train.py" in err
    assert not (tmp_path / "runs").exists()


def test_groups_of_devices() -> None:
    assert divide(range(8), 0) == [tuple(range(8))]
    assert divide(range(8), 4) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert divide([2, 3, 5, 7, 9], 2) == [(2, 3), (5, 7)]


def test_a_group_obeys_the_rules_that_a_run_obeys(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    devices = [f"  - {{device_id: {n}, device_ip: 192.168.{n % 4}.{n // 4 + 2}}}" for n in range(8)]
    (tmp_path / "hosts.yaml").write_text("hosts:\n- server_id: 10.0.0.1\n  devices:\n" + "\n".join(devices))
    values = {"backend": "npu", "chip": "910A", "inventory": "hosts.yaml", "program": ["true"]}
    values["skip_preflight"] = ["devices", "host", "health", "occupied"]

    def groups(listed: str, each: int) -> list[Any]:
        return checked(*configs.load(None, [], {**values, "devices": listed}), each, 9)

    assert [group.devices for group in groups("0-7", 4)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    with pytest.raises(PreflightError, match="not linked to each other on 910A; use 0-3 or 4-7"):
        groups("3-6", 4)
    assert "warning" not in capsys.readouterr().err
    groups("0-5", 3)
    assert "910A accepts 1, 2, 4 or 8" in capsys.readouterr().err


def command(folder: Path, *overrides: str) -> record.Command:
    return record.Command(str(folder / "job.yaml"), overrides, (1, 2), "0", 0, str(folder))


def test_secrets_are_not_kept_and_asked_for_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    made = record.make(command(tmp_path, "env.API_TOKEN=verysecret"), "tiny", tmp_path / "runs")
    assert "verysecret" not in (made.folder / record.NAME).read_text()
    with pytest.raises(UsageError, match="a secret on its command line is not kept"):
        record.reopen(made.folder)
    found = record.find_unfinished(made.command, tmp_path / "runs")
    assert found and found.command.overrides == ("env.API_TOKEN=verysecret",)


def test_a_job_file_that_was_changed_is_taken_as_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    job = write_job(tmp_path)
    made = record.make(command(tmp_path), "tiny", tmp_path / "runs")
    assert record.reopen(made.folder).command.job == str(job)
    job.write_text(job.read_text() + "# changed\n")
    assert record.reopen(made.folder).command.job == str(made.folder / record.JOB)
    assert record.find_unfinished(command(tmp_path), tmp_path / "runs") is None


def test_one_process_at_a_time_goes_on_with_a_repeat(tmp_path: Path) -> None:
    write_job(tmp_path)
    made = record.make(command(tmp_path), "tiny", tmp_path / "runs")
    with record.held(made), pytest.raises(UsageError, match="goes on in process"), record.held(made):
        pass
    with record.held(made):
        pass


@pytest.mark.parametrize("damage", ["", "{", '{"command": 3}', '{"version": 1, "command": {}, "runs": []}'])
def test_a_damaged_record_is_one_line(tmp_path: Path, damage: str) -> None:
    (tmp_path / record.NAME).write_text(damage)
    with pytest.raises(UsageError, match=r"--resume: .*repeat.json"):
        record.reopen(tmp_path)
