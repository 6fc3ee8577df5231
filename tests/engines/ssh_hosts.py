"""Hosts on this machine: a network namespace each, with sshd, a host name, an address and a /tmp of its own.

Needs root, iproute2, openssh-server and openssh-client. Folders that are given as private are a disk of its
own on each host. Names carry the process id, so that several sessions can do this at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Sequence

from tests.launching import ROOT

INSTALL = "apt-get install -y --no-install-recommends openmpi-bin openssh-server openssh-client iproute2"
_TOOLS = ("mpirun", "sshd", "ssh", "ssh-keygen", "ip", "unshare")
_QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
_SSH_CONFIG = """
IdentityFile {folder}/key
UserKnownHostsFile {folder}/known_hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
BatchMode yes
ConnectTimeout 3
LogLevel ERROR
"""


def _installed_below(place: Path, disk: Path) -> list[str]:
    """Keep on a host's own disk what it would hide of this checkout and its interpreter, at the same path."""
    lines = []
    for found in {ROOT, Path(sys.prefix), Path(sys.base_prefix)}:
        if place in found.parents and not any(other in found.parents for other in (ROOT,)):
            inside = disk / found.relative_to(place)
            lines += [f"mkdir -p {inside}", f"mount --bind {found} {inside}"]
    return lines


def missing() -> str:
    """Say what to install, or that root is needed; "" when all is there."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [tool for tool in _TOOLS if not shutil.which(tool, path=path)]
    if lacking:
        return f"{', '.join(lacking)} not found: {INSTALL}"
    if os.geteuid():
        return "network namespaces need root"
    probe = f"nlp{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], check=False, **_QUIET).returncode:
        return "this machine lets nobody make network namespaces"
    _ip("netns", "del", probe)
    return ""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, **_QUIET)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, **_QUIET)


class Hosts:
    """Hosts node1 to nodeN, from `up` to `down`. folder: a short, empty one that all hosts see.

    private: folders that each host has on a disk of its own. second: a bridge in each host that
    leads nowhere, with the same address on all, as docker0 has.
    """

    def __init__(
        self, folder: Path, count: int = 4, private: Sequence[Path] = (), second: bool = False
    ) -> None:
        self.folder, self.names = folder, [f"node{number + 1}" for number in range(count)]
        self._private, self._second = [Path("/tmp"), *private], second
        self._id = os.getpid() % 100000
        self._bridge = f"nlb{self._id}"
        self.network = f"10.{100 + self._id % 100}.{self._id // 100 % 250}"

    def space(self, name: str) -> str:
        """Return the network namespace of a host."""
        return f"nl{self._id}{name}"

    def address(self, name: str) -> str:
        """Return a host's address."""
        return f"{self.network}.{self.names.index(name) + 1}"

    @property
    def environ(self) -> dict[str, str]:
        """The variables that make mpirun use these hosts' ssh."""
        return {
            **os.environ,
            "OMPI_MCA_plm_rsh_agent": str(self.folder / "ssh"),
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        }

    def up(self) -> None:
        """Make the network and start an sshd on each host."""
        Path("/run/sshd").mkdir(exist_ok=True)
        self._keys()
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.network}.254/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for name in self.names:
            self.start(name)

    def _keys(self) -> None:
        for name in ("key", "hostkey"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name))
        shutil.copy(str(self.folder / "key.pub"), str(self.folder / "authorized_keys"))
        public = (self.folder / "hostkey.pub").read_text().split()[:2]
        known = [f"{name},{self.address(name)} {' '.join(public)}\n" for name in self.names]
        (self.folder / "known_hosts").write_text("".join(known))
        hosts = [f"Host {name}\n  HostName {self.address(name)}\n" for name in self.names]
        (self.folder / "ssh_config").write_text(
            "".join(hosts) + "Host *" + _SSH_CONFIG.format(folder=self.folder).replace("\n", "\n  ")
        )
        (self.folder / "ssh").write_text(f'#!/bin/sh\nexec ssh -F {self.folder}/ssh_config "$@"\n')
        (self.folder / "ssh").chmod(0o755)

    def start(self, name: str) -> None:
        """Make a host's network, and start its sshd."""
        number, space = self.names.index(name) + 1, self.space(name)
        _ip("netns", "add", space)
        _ip("link", "add", self._cable(number), "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", self._cable(number), "master", self._bridge, "up")
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "route", "add", "default", "via", f"{self.network}.254")
        if self._second:
            _ip("-n", space, "link", "add", "docker0", "type", "bridge")
            _ip("-n", space, "addr", "add", "172.17.0.1/16", "dev", "docker0")
            _ip("-n", space, "link", "set", "docker0", "up")
        self._sshd(name)

    def disk(self, name: str, place: Path) -> Path:
        """Return where this machine sees what a host has in a private folder."""
        return self.folder / name / str(place).strip("/").replace("/", "_")

    def _sshd(self, name: str) -> None:
        own = self.folder / name
        lines = [f"hostname {name}"]
        for place in self._private:
            disk = self.disk(name, place)
            disk.mkdir(parents=True, exist_ok=True)
            disk.chmod(0o1777 if place == Path("/tmp") else 0o755)
            place.mkdir(parents=True, exist_ok=True)
            lines += [*_installed_below(place, disk), f"mount --rbind {disk} {place}"]
        options = {
            "PidFile": "none", "AuthorizedKeysFile": f"{self.folder}/authorized_keys", "StrictModes": "no",
            "PermitRootLogin": "yes", "UsePAM": "no", "PasswordAuthentication": "no",
        }  # fmt: skip
        words = " ".join(f"-o {key}={value}" for key, value in options.items())
        lines.append(f"exec /usr/sbin/sshd -D -e -p 22 -h {self.folder}/hostkey {words}")
        subprocess.Popen(
            ["ip", "netns", "exec", self.space(name), "unshare", "--uts", "--mount", "sh", "-ec",
             "\n".join(lines)],
            **{**_QUIET, "stderr": (own / "sshd.log").open("ab")},
        )  # fmt: skip
        self._wait_for_ssh(name)

    def _wait_for_ssh(self, name: str) -> None:
        end = time.monotonic() + 20
        while b"listening" not in (self.folder / name / "sshd.log").read_bytes():
            if time.monotonic() > end:
                raise TimeoutError((self.folder / name / "sshd.log").read_text())
            time.sleep(0.02)

    @staticmethod
    def _cable_name(own: int, number: int) -> str:
        return f"nv{own}n{number}"

    def _cable(self, number: int) -> str:
        return self._cable_name(self._id, number)

    def cut(self, name: str, cut: bool = True) -> None:
        """Cut the cable of a host, or mend it."""
        _ip("link", "set", self._cable(self.names.index(name) + 1), "down" if cut else "up")

    def pids(self, name: str) -> list[int]:
        """List a host's living processes."""
        done = subprocess.run(
            ["ip", "netns", "pids", self.space(name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return [int(word) for word in done.stdout.split() if _lives(int(word))]

    def commands(self, name: str) -> dict[int, str]:
        """Map a host's living processes, but those of sshd's own, to their command lines."""
        found = {}
        for pid in self.pids(name):
            with suppress(OSError):
                words = Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                if words and "sshd" not in words.split()[0]:
                    found[pid] = words
        return found

    def kill(self, name: str) -> None:
        """Let a host die at once, without a word to anybody."""
        self.cut(name)
        for pid in self.pids(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def down(self) -> None:
        """End all processes of the hosts, and remove their network."""
        for number, name in enumerate(self.names, 1):
            for pid in self.pids(name):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for words in (("netns", "del", self.space(name)), ("link", "del", self._cable(number))):
                subprocess.run(["ip", *words], check=False, **_QUIET)
        subprocess.run(["ip", "link", "del", self._bridge], check=False, **_QUIET)


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return False
