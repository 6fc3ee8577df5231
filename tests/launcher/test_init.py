"""Process 1 of a container, in a namespace of its own: signals, orphans, exit codes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1].parent
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def start(program: str) -> Any:
    """Start `program` (a function body) under with_init() as process 1 of a namespace, or skip."""
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no process namespaces here (unshare --pid needs root)")
    head = "import os, signal, sys, time\nfrom launcher.process.init import with_init\ndef main():\n"
    command = [*UNSHARE, sys.executable, "-c", f"{head}{program}\nsys.exit(with_init(main))"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=str(ROOT), stdout=pipe, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize(
    "program, code",
    [
        ("    return 7", 7),
        ("    os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("    assert os.getpid() != 1\n    return 0", 0),
    ],
)
def test_it_ends_as_its_program_ends(program: str, code: int) -> None:
    child = start(program)
    out, _ = child.communicate(timeout=20)
    assert child.returncode == code, out


def test_a_signal_reaches_a_program_that_does_not_handle_it() -> None:
    child = start("    print('up', flush=True)\n    time.sleep(60)")
    assert child.stdout.readline() == "up\n"
    inside = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(inside[0]), signal.SIGTERM)
    assert child.wait(20) == 143


def test_a_key_of_the_terminal_reaches_the_program_once() -> None:
    head, program = (
        "import os, signal, sys, time\nfrom launcher.process.init import with_init\n",
        "def main():\n    signal.signal(signal.SIGINT, lambda *_: print('int', flush=True))\n"
        "    print('up', flush=True)\n    time.sleep(1.5)\n    print('end', flush=True)\n    return 0\n",
    )
    start("    return 0").wait(20)  # or skip
    child, terminal = pty.fork()
    if not child:
        os.chdir(str(ROOT))
        os.execvp("unshare", [*UNSHARE, sys.executable, "-c", f"{head}{program}sys.exit(with_init(main))"])
    text = b""
    while b"end" not in text:
        text += os.read(terminal, 1024)
        if b"up" in text and b"^C" not in text:
            os.write(terminal, b"\x03")
            text += b"^C"
    os.waitpid(child, 0)
    os.close(terminal)
    assert text.count(b"int") == 1


def test_orphans_are_reaped() -> None:
    child = start(
        "    for _ in range(5):\n"
        "        if not os.fork():\n"
        "            if not os.fork():\n"
        "                os._exit(0)\n"
        "            time.sleep(0.05)\n"
        "            os._exit(0)\n"
        "        os.wait()\n"
        "    end = time.monotonic() + 10\n"
        "    while len([n for n in os.listdir('/proc') if n.isdigit()]) > 2 and time.monotonic() < end:\n"
        "        time.sleep(0.02)\n"
        "    return len([n for n in os.listdir('/proc') if n.isdigit()])"
    )
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 2, out
