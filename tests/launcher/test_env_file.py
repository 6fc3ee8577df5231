"""Environment files: the same values as a shell gives, with no shell."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.cases.env_file import expand, read
from launcher.errors import ConfigError

ENVIRON = {"HOME": "/home/me", "PATH": "/bin:/usr/bin"}


def write(folder: Path, text: str) -> Path:
    path = folder / "npu.env"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_assignments_comments_and_quotes(tmp_path: Path) -> None:
    text = """# tool kit
export SOC_VERSION=Ascend910   # the chip
  JOB_ID = 1
"""
    with pytest.raises(ConfigError, match=r"npu\.env:3: 'JOB_ID = 1' is not KEY=VALUE"):
        read(write(tmp_path, text), ENVIRON)
    assert read(write(tmp_path, text.replace(" = ", "=")), ENVIRON) == {
        "SOC_VERSION": "Ascend910",
        "JOB_ID": "1",
    }


def test_later_lines_see_earlier_ones_and_the_environment(tmp_path: Path) -> None:
    text = "ROOT=/opt/x\nexport PATH=$ROOT/bin:${PATH}\nNONE=$NO_SUCH\nDEFAULT=${NO_SUCH:-a b}\n"
    assert read(write(tmp_path, text), ENVIRON) == {
        "ROOT": "/opt/x",
        "PATH": "/opt/x/bin:/bin:/usr/bin",
        "NONE": "",
        "DEFAULT": "a b",
    }


pieces = st.sampled_from(
    [
        "a",
        "/x-1.y",
        ":",
        "=",
        "'q $HOME #'",
        '"d $HOME ${NO:-e}"',
        "$HOME",
        "${NO:-f}",
        "\\$",
        "\\ ",
        "''",
        '"\\"\\$\\a"',
    ]
)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.lists(pieces, max_size=5).map("".join), min_size=8, max_size=8))
def test_gives_the_values_that_a_shell_gives(values: Any, tmp_path_factory: Any) -> None:
    lines = [f"export V{n}={value} # note" for n, value in enumerate(values)]
    path = write(tmp_path_factory.mktemp("env"), "\n".join(lines))
    show = "".join(f'printf "%s\\0" "$V{number}";' for number in range(len(values)))
    shell = subprocess.run(
        ["sh", "-c", f". {path}; {show}"], env=ENVIRON, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, str] = read(path, ENVIRON)
    assert list(found.values()) == shell.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize(
    "line, message",
    [
        ("ulimit -c unlimited", "no shell is run"),
        ("source /usr/local/Ascend/set_env.sh", "no shell is run"),
        ("A=$(rm -rf /)", "runs a command"),
        ("A=`id`", "runs a command"),
        ('A="$(id)"', "runs a command"),
        ("A=${HOME%/*}", "runs a command"),
        ("A=b c", "more than one word"),
        ("A=b; rm x", "cannot be read"),
        ("A=b & rm x", "more than one word"),
        ("A='open", "cannot be read"),
        ("1A=b", "not KEY=VALUE"),
        ("export A", "not KEY=VALUE"),
    ],
)
def test_refuses_with_file_and_line_what_only_a_shell_could_do(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"npu\.env:2: .*{message}"):
        read(write(tmp_path, "# first\n" + line + "\n"), ENVIRON)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.env: no such file"):
        read(tmp_path / "none.env", ENVIRON)


def test_expanding_names_the_variable_that_is_not_set() -> None:
    assert expand("--x=${HOME}/y$HOME", ENVIRON.get) == "--x=/home/me/y/home/me"
    with pytest.raises(ValueError, match=r"\$NONE is not set"):
        expand("--x=$NONE", ENVIRON.get)


def test_a_default_may_name_other_variables() -> None:
    assert expand("${A:-$B/c}", {"B": "b"}.get) == "b/c"
    with pytest.raises(ValueError, match=r"\$B is not set"):
        expand("${A:-$B/c}", {}.get)
