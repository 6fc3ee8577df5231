"""train.yaml and overrides: what is accepted, and the one line that refuses the rest."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.config.job import JobConfig, arguments, load, to_yaml
from launcher.errors import ConfigError
from rank_table import files


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
        ("job: !!python/name:os.system x\n", ["train.yaml:1", "invalid YAML", "unknown tag"]),
        ("env: {A: null}\n", ["train.yaml:1", "env.A", "null", "expected text"]),
        ("env:\n  A: [1, x]\n", ["train.yaml:2", "env.A", "a list", "expected text"]),
        ("env: [A]\n", ["train.yaml:1", "env", "not a mapping"]),
        ("env: {A=B: x}\n", ["env.A=B", "invalid name"]),
        ('env: {A: "x\\0y"}\n', ["train.yaml:1", "env.A", "NUL"]),
        ('env: {"x\\0y": A}\n', ["train.yaml:1", "env.x", "NUL"]),
        ('args: {a: [b, "x\\0y"]}\n', ["train.yaml:1", "args.a", "NUL"]),
        ('program: [a, "x\\0y"]\n', ["train.yaml:1", "program", "NUL"]),
        ('runs_dir: "x\\0y"\n', ["train.yaml:1", "runs_dir", "NUL"]),
        ('args: {a: "\\ud800"}\n', ["train.yaml:1", "args.a", "cannot encode"]),
        ("env: {API_KEY: '***'}\n", ["train.yaml:1", "env.API_KEY", "stands for a secret"]),
        ("args: {a: {b: 1}}\n", ["train.yaml:1", "args.a", "a mapping", "put it in quotes"]),
        ("args: {a: [[1]]}\n", ["train.yaml:1", "args.a", "a list", "put it in quotes"]),
        ("args: &r {a: *r}\n", ["train.yaml:1", "args.a", "a mapping"]),
        ("args: {a: " + "[" * 900 + "]" * 900 + "}\n", ["train.yaml", "nested too deeply"]),
        ("job: a\n---\njob: b\n", ["train.yaml:2", "a second document"]),
        ("gather: [*.txt]\n", ["train.yaml:1", "invalid YAML", "quote a value that begins with *"]),
        ("job: a\x07\n", ["train.yaml:1", "invalid YAML", "the character"]),
        ("job: a\0\n", ["train.yaml", "no text file"]),
        ("? [a]\n: b\n", ["train.yaml:1", "a key that is no text"]),
        ("<<: [1]\n", ["train.yaml:1", "merges what is no mapping"]),
        ("args: {a: 1, a: 2}\n", ["train.yaml:1", "args.a", "duplicate key"]),
        ("max_restarts: 0x10\n", ["train.yaml:1", "max_restarts", "'0x10'", "a whole number"]),
        ("hang_timeout: 12:30\n", ["train.yaml:1", "hang_timeout", "a number"]),
        ("quiet: 1\n", ["train.yaml:1", "quiet", "true or false"]),
        ("job: [a]\n", ["train.yaml:1", "job", "a list", "expected text"]),
        ("job: null\n", ["train.yaml:1", "job", "null", "expected text"]),
    ],
)
def test_case_71_a_bad_file_is_refused_with_place_and_advice(tmp_path: Path, text: str, words: Any) -> None:
    message = refusal(write(tmp_path, text))
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert not any(word in message for word in ("Dict[", "List[", "Union[", "None"))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert load(write(tmp_path, "\ufeffjob: a\n"), [], {})[0].job == "a"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_bytes(b"job: \xff\xfe\n")
    assert "expected UTF-8" in refusal(str(tmp_path / "train.yaml"))


AS_WRITTEN = (
    "12:30:45 1.10 0755 1_000 0x10 1e3 1. yes no on off ~ 2026-03-01 +5 .5 5.0e-5 -1 1e400 0o17 = y NaN .inf"
)


@pytest.mark.parametrize("value", AS_WRITTEN.split())
def test_a_program_and_its_environment_get_each_value_as_it_is_written(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f"args: {{a: {value}, b: [{value}, x]}}\nprogram: [x, {value}]\n")
    config, _ = load(path, [f"c={value}", f"env.A={value}"], {})
    assert arguments(config.args) == [f"--a={value}", f"--b={value},x", f"--c={value}"]
    assert (config.program, config.env) == (["x", value], {"A": value})
    assert load(write(tmp_path, to_yaml(config)), [], {})[0] == config
    if value != "~":
        assert load(write(tmp_path, f"env: {{A: {value}}}\n"), [], {})[0].env == {"A": value}


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("a=", ["--a="]),
        ("a=true", ["--a=True"]),
        ("a=False", ["--a=False"]),
        ("a=[1, 1.10, true]", ["--a=1,1.10,True"]),
        ("a=[a-z]*", ["--a=[a-z]*"]),
        ("a=[a-z", ["--a=[a-z"]),
        ('a={"x": [1]}', ['--a={"x": [1]}']),
        ("a='x'", ["--a='x'"]),
        ("a=b # c: d", ["--a=b # c: d"]),
        ("a=b=c", ["--a=b=c"]),
        ("a=*b", ["--a=*b"]),
        ("a=null", ["--a=null"]),
    ],
)
def test_an_argument_on_the_command_line_is_the_text_as_typed(typed: str, given: list[str]) -> None:
    assert arguments(load(None, [typed], {})[0].args) == given


def test_flags_of_a_file_are_as_before_and_null_is_left_out(tmp_path: Path) -> None:
    config, _ = load(write(tmp_path, "args: {a: true, b: False, c: null, d: , e: 'true'}\n"), [], {})
    assert arguments(config.args) == ["--a=True", "--b=False", "--e=true"]


def test_keys_of_the_launcher_keep_their_types_and_texts_are_as_written(tmp_path: Path) -> None:
    text = "grace: 1_0\nhang_timeout: 1e3\nmax_restarts: 010\nquiet: on\nchip: 950\njob: 1.10\ndevices: 0,1\n"
    config, _ = load(write(tmp_path, text), ["show_ranks=[0, 1]", "runs_dir=2024"], {})
    assert (config.grace, config.hang_timeout, config.max_restarts, config.quiet) == (10.0, 1000.0, 10, True)
    assert (config.chip, config.job, config.devices) == ("950", "1.10", "0,1")
    assert (config.show_ranks, config.runs_dir) == ([0, 1], "2024")


def test_the_command_line_sets_the_environment_of_the_ranks(tmp_path: Path) -> None:
    path = write(tmp_path, "env: {A: 1, B: 2}\n")
    assert load(path, ["env.A=x y", "env.C="], {})[0].env == {"A": "x y", "B": "2", "C": ""}
    assert load(path, ["env={C: 3}", "env.D=4"], {})[0].env == {"C": "3", "D": "4"}
    assert "key=value" in refusal(None, "env.=1")


def test_mappings_are_merged_and_what_stands_in_them_comes_first(tmp_path: Path) -> None:
    text = "args:\n  <<: [{a: 1, b: 2}, {a: 3, c: 4}]\n  b: 5\n"
    assert load(write(tmp_path, text), [], {})[0].args == {"a": "1", "b": "5", "c": "4"}
    assert load(write(tmp_path, "args: &r\n  <<: *r\n  b: 5\n"), [], {})[0].args == {"b": "5"}


def test_a_job_may_come_from_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"job: a\n")
    os.close(writing)
    assert load(f"/proc/self/fd/{reading}", [], {})[0].job == "a"
    os.close(reading)


@pytest.mark.parametrize("kind", ["nothing was written", "a folder", "more than 256 KiB", "invalid encoding"])
def test_what_is_no_small_text_file_is_refused_in_bounded_time(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.05)
    path = tmp_path / "train.yaml"
    if kind == "nothing was written":
        os.mkfifo(str(path))
    elif kind == "a folder":
        path.mkdir()
    elif kind == "invalid encoding":
        path.write_bytes("job: a\n".encode("utf-16"))
    else:
        path.write_text("#" * (1 << 18) + "\n")
    message = refusal(str(path))
    assert kind in message and message.startswith(str(path)) and "\n" not in message


def test_a_secret_is_masked_in_the_job_that_is_written_and_a_reference_stays(tmp_path: Path) -> None:
    config, _ = load(None, ["env.API_KEY=leak a, b", "env.TOKEN=$TOKEN", "hub_token=leak", "lr=1"], {})
    text = to_yaml(config)
    assert "leak" not in text and "TOKEN: $TOKEN" in text
    assert "stands for a secret" in refusal(write(tmp_path, text))


@given(st.text(alphabet="ab01:-[]{},&*!|>'\"%#?<=\n\t ~.\\\0\u2028", max_size=60))
@settings(deadline=None)
def test_any_text_is_a_job_or_one_line_that_refuses_it(tmp_path_factory: Any, text: str) -> None:
    for document in (text, f"args: {text}"):
        with suppress(ConfigError):
            load(write(tmp_path_factory.getbasetemp(), document), [], {})
    with suppress(ConfigError):
        load(None, [f"a={text}", f"env={text}", f"grace={text}"], {})


def test_aliases_that_explode_are_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "unknown key" in refusal(write(tmp_path, "\n".join(lines)))
    below = "\n  ".join(["args:", *lines])
    assert "args.a1: a list: wrong type" in refusal(write(tmp_path, below))


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
