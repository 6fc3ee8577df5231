"""train.yaml and overrides: what is accepted, and the one line that refuses the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.config.job import JobConfig, arguments, load, to_yaml
from launcher.errors import ConfigError


def write(folder: Path, text: str) -> str:
    path = folder / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(path: Any, *overrides: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides, options)
    return str(caught.value)


def test_yaml_overrides_and_options_each_win_over_the_one_before(tmp_path: Path) -> None:
    path = write(tmp_path, "grace: 1\ndevices: 0-7\nargs: {seed: 1, learning_rate: 5e-5}\n")
    config, _ = load(path, ["seed=2", "grace=2"], {"grace": 3.0, "backend": None})
    assert (config.grace, config.devices, config.backend) == (3.0, "0-7", "auto")
    assert arguments(config.args) == ["--seed=2", "--learning_rate=5e-5"]


def test_a_list_of_devices_is_a_device_list(tmp_path: Path) -> None:
    assert load(write(tmp_path, "devices: [0, 2]\n"), [], {})[0].devices == "0,2"


def test_what_was_resolved_reads_back_as_the_same_job(tmp_path: Path) -> None:
    config, _ = load(write(tmp_path, "job: a\nargs: {x: [1, 2], y: null}\nrestart_on: [hang]\n"), [], {})
    assert load(write(tmp_path, to_yaml(config)), [], {})[0] == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lerning: 1\n", ["train.yaml:1", "lerning", "unknown key"]),
        ("job: a\ngraec: 1\n", ["train.yaml:2", "graec", "did you mean grace?"]),
        ("grace: soon\n", ["train.yaml:1", "grace", "'soon'", "a number"]),
        ("show_ranks: 3\n", ["train.yaml:1", "show_ranks", "a list"]),
        ("grace: -1\n", ["grace", "0 or more"]),
        ("grace: .inf\n", ["grace", "0 or more"]),
        ("backend: tpu\n", ["backend", "cpu, npu, auto"]),
        ("restart_on: [always]\n", ["restart_on", "always", "exit:CODE"]),
        ("job: ../x\n", ["job", "invalid folder name"]),
        ("job: a.json\n", ["job", "invalid folder name"]),
        ("job: a\njob: b\n", ["train.yaml:2", "job", "duplicate key", "line 1"]),
        ("job: [\n", ["train.yaml:2", "invalid YAML"]),
        ("job:\n\t- a\n", ["train.yaml:2", "invalid YAML"]),
        ("", ["train.yaml", "no keys"]),
        ("- a\n", ["train.yaml", "no keys"]),
        ("args: 3\n", ["train.yaml:1", "args", "not a mapping"]),
        ("job: !!python/object/apply:os.system ['true']\n", ["invalid YAML"]),
    ],
)
def test_case_71_a_bad_file_is_refused_with_place_and_advice(tmp_path: Path, text: str, words: Any) -> None:
    message = refusal(write(tmp_path, text))
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert load(write(tmp_path, "\ufeffjob: a\n"), [], {})[0].job == "a"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_bytes(b"job: \xff\xfe\n")
    assert "expected UTF-8" in refusal(str(tmp_path / "train.yaml"))


def test_aliases_that_explode_are_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "unknown key" in refusal(write(tmp_path, "\n".join(lines)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "nowhere.yaml" in refusal(str(tmp_path / "nowhere.yaml"))


@pytest.mark.parametrize("word", ["plain", "=1"])
def test_an_override_without_a_key_is_refused(word: str) -> None:
    assert "key=value" in refusal(None, word)


def test_an_override_is_blamed_on_the_command_line(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "grace: 1\n"), "grace=soon")
    assert message.startswith("command line: grace")


def test_an_old_name_of_a_key_still_works_and_says_so_once_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "job: a\nlog_max: 5\nshow: [1]\n")
    config, provenance = load(path, [], {})
    assert (config.max_log_bytes, config.show_ranks) == (5, [1])
    assert provenance.notes == [
        f"{path}:2: log_max: renamed to max_log_bytes; the old name still works",
        f"{path}:3: show: renamed to show_ranks; the old name still works",
    ]
    assert f"{path}:3: show_ranks: " in refusal(write(tmp_path, "job: a\n\nshow: x\n"))


def test_an_old_name_on_the_command_line_still_works_and_says_so(tmp_path: Path) -> None:
    config, provenance = load(write(tmp_path, "show_ranks: [1]\n"), ["show=[2]", "log_max=7"], {})
    assert (config.show_ranks, config.max_log_bytes) == ([2], 7)
    assert provenance.notes[0] == "command line: show: renamed to show_ranks; the old name still works"
    config, provenance = load(None, [], {"skip_preflight": ["disk"], "no_preflight": ["ports"]})
    assert config.skip_preflight == ["disk", "ports"]
    (note,) = provenance.notes
    assert note == "command line: --no-preflight: renamed to --skip-preflight; the old name still works"


def test_an_old_and_a_new_name_of_one_key_in_a_file_are_refused(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "show_ranks: [1]\nshow: [2]\n"))
    assert "train.yaml:2: show: the old name of show_ranks" in message


def test_every_key_says_what_it_means() -> None:
    import dataclasses

    fields: dict[str, Any] = {field.name: field for field in dataclasses.fields(JobConfig)}
    assert all(field.metadata["help"] for field in fields.values())
