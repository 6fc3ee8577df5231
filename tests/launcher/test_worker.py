"""The worker file inside a rank: it runs programs as Python does, and leaves evidence when they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.diagnosis.failure import read_error
from tests.launching import ROOT

WORKER = str(ROOT / "launcher" / "worker.py")


def run(folder: Path, program: str, *words: str, name: str = "program.py") -> Any:
    """Run a program below the worker file, as rank 3."""
    (folder / name).write_text(program)
    line = [sys.executable, "-u", WORKER, *(words or (name,))]
    environ = dict(os.environ, NPU_LAUNCH_RANK_DIR=str(folder), RANK_ID="3", NPU_LAUNCH_CWD=str(folder))
    return subprocess.run(line, cwd=str(folder), env=environ, capture_output=True, text=True, timeout=60)


def record(folder: Path, name: str = "error.json") -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / name).read_text())
    return value


def test_a_script_sees_what_python_would_show_it(tmp_path: Path) -> None:
    program = """
import atexit, os, sys
class Mine: pass
print(__name__, __package__, __spec__, os.path.abspath(__file__), sys.argv[1:], sys.path[0])
print(__cached__, __builtins__.sorted is sorted)
atexit.register(lambda: print(vars(sys.modules["__main__"])["Mine"]))
"""
    done = run(tmp_path, program, "program.py", "--a", "b c")
    plain = subprocess.run(
        [sys.executable, "program.py", "--a", "b c"], cwd=str(tmp_path), stdout=subprocess.PIPE, text=True
    )
    assert done.stdout == plain.stdout and done.returncode == 0
    assert not (tmp_path / "error.json").exists()


def test_a_module_sees_what_python_would_show_it_where_the_launch_was_typed(tmp_path: Path) -> None:
    program = """
import atexit, sys
class Held:
    def __del__(self): print("gone")
held = Held()  # such as a model of DistributedDataParallel: it must not go before the interpreter does
print(__name__, repr(__package__), __spec__.name, __file__, sys.argv, sys.path[0], __cached__)
atexit.register(lambda: print("exit", sys.modules["__main__"].held is held))
"""
    (tmp_path / "below").mkdir()
    done = run(tmp_path, program, "-m", "below.mine", "x", name="below/mine.py")
    command = [sys.executable, "-m", "below.mine", "x"]
    plain = subprocess.run(command, cwd=str(tmp_path), stdout=subprocess.PIPE, text=True)
    assert done.stdout == plain.stdout and done.stdout.endswith("exit True\ngone\n")


def test_a_link_to_a_script_imports_what_stands_beside_the_script(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "beside.py").write_text("value = 5\n")
    (tmp_path / "link.py").symlink_to(Path("real", "program.py"))
    program = "import os, sys, beside\nprint(beside.value, sys.path[0], os.path.basename(__file__))\n"
    done = run(tmp_path, program, "link.py", name="real/program.py")
    assert done.stdout == f"5 {(tmp_path / 'real').resolve()} link.py\n", done.stderr


def test_an_exception_is_written_with_its_time_and_only_the_programs_frames(tmp_path: Path) -> None:
    program = (
        "def inner():\n    raise KeyError('k')\n"
        "try:\n    inner()\nexcept KeyError as e:\n    raise ValueError('v') from e\n"
    )
    done = run(tmp_path, program)
    error = record(tmp_path)
    assert done.returncode == 1
    assert (error["type"], error["message"], error["rank"], error["fatal"]) == ("ValueError", "v", 3, True)
    assert error["monotonic_ns"] > 0 and error["time_ns"] > 1e18 and error["thread"] == "MainThread"
    assert "KeyError: 'k'" in error["traceback"] and "direct cause" in error["traceback"]
    for text in (error["traceback"], done.stderr):
        assert "worker.py" not in text and "runpy" not in text and "in inner" in text


@pytest.mark.parametrize(
    ("program", "code", "kind"),
    [
        ("import sys; sys.exit(29)", 29, "SystemExit"),
        ("import sys; sys.exit('words')", 1, "SystemExit"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
        ("def broken(:", 1, "SyntaxError"),
        ("import nowhere_at_all", 1, "ModuleNotFoundError"),
    ],
)
def test_every_way_to_fail_leaves_a_record(tmp_path: Path, program: str, code: int, kind: str) -> None:
    done = run(tmp_path, program)
    assert done.returncode in (code, -2, 1) if kind == "KeyboardInterrupt" else done.returncode == code
    assert record(tmp_path)["type"] == kind


def test_a_syntax_error_is_told_as_python_tells_it(tmp_path: Path) -> None:
    done = run(tmp_path, "print(1)\ndef broken(:\n")
    assert "importlib" not in done.stderr and "line 2" in done.stderr and done.stdout == ""
    assert "importlib" not in record(tmp_path)["traceback"]


@pytest.mark.parametrize("program", ["import sys; sys.exit(0)", "import sys; sys.exit()", "pass"])
def test_a_good_end_leaves_none(tmp_path: Path, program: str) -> None:
    assert run(tmp_path, program).returncode == 0
    assert not (tmp_path / "error.json").exists()


def test_a_forked_childs_error_is_not_the_ranks(tmp_path: Path) -> None:
    done = run(tmp_path, "import os\nif os.fork() == 0: raise ValueError('child')\nos.wait()")
    assert done.returncode == 0 and not (tmp_path / "error.json").exists()


def test_a_record_is_written_before_exit_handlers_and_threads_are_waited_for(tmp_path: Path) -> None:
    program = (
        "import atexit, os\n"
        "atexit.register(lambda: print('there' if os.path.exists('error.json') else 'missing'))\n"
        "raise ValueError\n"
    )
    assert run(tmp_path, program).stdout == "there\n"


def test_a_program_with_its_own_excepthook_is_recorded_too(tmp_path: Path) -> None:
    done = run(tmp_path, "import sys\nsys.excepthook = lambda *_: print('own')\nraise ValueError('x')")
    assert "own" in done.stdout and record(tmp_path)["message"] == "x"


def test_an_exit_handler_may_look_for_a_module_that_is_not_there(tmp_path: Path) -> None:
    program = (
        "import atexit\n"
        "def look():\n"
        "    try:\n        import nowhere_at_all\n    except ImportError:\n        print('none')\n"
        "atexit.register(look)\n"
    )
    assert run(tmp_path, program).stdout == "none\n"


def test_an_exception_in_a_thread_is_recorded_apart(tmp_path: Path) -> None:
    program = (
        "import threading\n"
        "def work(): raise ValueError('in a thread')\n"
        "t = threading.Thread(target=work, name='loader'); t.start(); t.join()\n"
    )
    done = run(tmp_path, program)
    error = record(tmp_path, "thread_error.json")
    assert done.returncode == 0 and not (tmp_path / "error.json").exists()
    assert (error["thread"], error["fatal"], error["message"]) == ("loader", False, "in a thread")
    assert "in a thread" in done.stderr


def test_worker_processes_of_multiprocessing_start_as_they_do_without_a_launcher(tmp_path: Path) -> None:
    program = (
        "import multiprocessing\n"
        "def square(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool: print(pool.map(square, [1, 2, 3]))\n"
    )
    done = run(tmp_path, program)
    assert done.stdout == "[1, 4, 9]\n", done.stderr


def test_it_imports_only_the_standard_library(tmp_path: Path) -> None:
    program = (
        "import sys; print([n for n in sys.modules if n.split('.')[0] in ('launcher', 'click', 'numpy')])"
    )
    assert run(tmp_path, program).stdout == "[]\n"


def test_without_a_launcher_it_runs_the_program_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("raise ValueError")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("NPU_LAUNCH")}
    line = [sys.executable, WORKER, "program.py"]
    done = subprocess.run(line, cwd=str(tmp_path), env=environ, stderr=subprocess.DEVNULL)
    assert done.returncode == 1 and os.listdir(str(tmp_path)) == ["program.py"]


def test_a_very_long_message_still_makes_a_record_that_can_be_read(tmp_path: Path) -> None:
    run(tmp_path, "raise ValueError('\\u4e2d' * 3000000 + 'the end')")
    error = read_error(tmp_path / "error.json")
    assert error.message.endswith("the end") and error.traceback.rstrip().endswith("the end")
    assert error.traceback.startswith("Traceback")


def test_a_fifo_of_an_earlier_attempt_does_not_hold_the_rank(tmp_path: Path) -> None:
    for name in ("stacks.txt", "heartbeat.json.tmp", "error.json"):
        os.mkfifo(str(tmp_path / name))
    assert run(tmp_path, "raise ValueError('v')").returncode == 1
    assert read_error(tmp_path / "error.json").message == "v"
